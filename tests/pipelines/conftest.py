"""Fixtures of the tests of the stages."""

from pathlib import Path

import pytest

from cxr_pipeline.framework.config import Folders


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """The folders of a project, each of its own name below the folder of the test."""
    return Folders(**{name: tmp_path / name for name in Folders.model_fields})
