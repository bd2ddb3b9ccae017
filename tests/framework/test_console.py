import io
import logging

import rich

from cxr_pipeline.framework.console import log_lines


def test_a_message_is_one_line_as_it_is_and_a_log_file_is_still_written(monkeypatch, tmp_path):
    root, printed, file = logging.getLogger(), io.StringIO(), logging.FileHandler(tmp_path / "run.log")
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    monkeypatch.setattr(root, "handlers", [handler, file])
    monkeypatch.setattr(rich, "_console", rich.console.Console(file=printed, width=20))
    path = f"/folder/{'deep/' * 20}[bold]:smile:"
    try:
        log_lines()
        logging.getLogger("cxr_pipeline.test").warning("See %s", path)
    finally:
        logging.captureWarnings(False)
        file.close()
    assert printed.getvalue() == f"WARNING See {path}\n"
    assert (tmp_path / "run.log").read_text() == f"See {path}\n"
