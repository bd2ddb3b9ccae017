import io
import logging

import pytest
import rich

from cxr_pipeline.framework.console import log_lines


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch):
    """The output of a logger that is set up like the root logger of a command."""
    root, printed = logging.getLogger(), io.StringIO()
    handlers = root.handlers.copy()
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root.handlers[:] = [handler]
    monkeypatch.setattr(rich, "_console", rich.console.Console(file=printed, width=20))
    log_lines()
    yield printed
    logging.captureWarnings(False)
    root.handlers[:] = handlers


def test_a_message_is_one_line_as_it_is(output: io.StringIO) -> None:
    path = f"/folder/{'deep/' * 20}[bold]:smile:"
    logging.getLogger("cxr_pipeline.test").warning("See %s", path)
    assert output.getvalue() == f"WARNING See {path}\n"


def test_a_log_file_is_still_written(output, tmp_path) -> None:
    root, file = logging.getLogger(), logging.FileHandler(tmp_path / "run.log")
    root.addHandler(file)
    log_lines()
    root.warning("kept")
    assert file in root.handlers
    assert (tmp_path / "run.log").read_text() == "kept\n"
    file.close()
