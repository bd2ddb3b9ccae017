from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def call(tmp_path: Path) -> dict[str, Any]:
    """How a run was called whose nodes start cells: what a `Launch` has beside its parameters."""
    return {
        "project": str(tmp_path),
        "place": str(tmp_path),
        "conf_source": str(tmp_path / "conf"),
        "env": "demo",
        "runtime_params": {"raw": "/r"},
        "tracking_uri": "sqlite://",
        "parent_run": "parent",
    }
