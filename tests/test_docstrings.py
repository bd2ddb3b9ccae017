"""Examples in docstrings run, and print what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
    for path in SOURCE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_say(module, tmp_path):
    """``tmp_path`` and ``Path`` are there for examples that write a file."""
    found = doctest.testmod(
        importlib.import_module(module),
        extraglobs={"tmp_path": tmp_path, "Path": Path},
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS,
    )
    assert found.failed == 0
    assert found.attempted > 0
