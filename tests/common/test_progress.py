import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import pytest

from cxr_pipeline.common import progress

COLUMNS = 60
BARS = """
import time
from cxr_pipeline.common.progress import progress_bar
with progress_bar("resize_images", 26, unit="nodes"):
    with progress_bar("Preparing images of a source with a long name", 112_120, completed=100_000) as update:
        for _ in range(8):
            time.sleep(0.1)
            update(advance=1_024)
        print("A message.")
"""
STOPPED = """
import os, signal, time
from cxr_pipeline.common.progress import track
from cxr_pipeline.framework.exit import clean_exit
with clean_exit():
    for number in track(range(10), "Training", 10):
        time.sleep(0.6)
        if number:
            os.kill(os.getpid(), signal.SIGTERM)
"""


def on_terminal(code, **environment):
    """Run Python code in a terminal of 60 columns, and return its output and exit status."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    hidden = {"COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | environment
    streams = {"stdin": inner, "stdout": inner, "stderr": inner}
    process = subprocess.Popen([sys.executable, "-c", code], env={"TERM": "xterm", **environment}, **streams)
    os.close(inner)
    parts = []
    try:
        while part := os.read(outer, 2**16):
            parts.append(part)
    except OSError:  # Linux reports the end of the process like this
        pass
    os.close(outer)
    return b"".join(parts).decode(), process.wait()


def lines(printed):
    """Return the lines that a terminal showed at any time, without escape codes."""
    moves = re.sub(r"\x1b\[\d*[AK]|\r|\n", "\n", re.sub(r"\x1b\[[\d;?]*[mhl]", "", printed))
    return [line.rstrip() for line in moves.split("\n") if line.strip()]


def test_a_terminal_shows_nested_bars_with_rate_and_time_left_in_its_width_and_removes_them():
    printed, status = on_terminal(BARS)
    assert status == 0
    shown = lines(printed)
    assert max(map(len, shown)) <= COLUMNS
    assert any(re.fullmatch(r"resize_images +\S{5} 0/26, 0:00:0\d", line) for line in shown)
    assert any(re.fullmatch(r"Prepar\S* .*… \S{5} 10\d,\d{3}/112,120, [\d,]+/s, 0:00:0\d left", line) for line in shown)
    assert "A message." in shown
    assert printed.endswith("\x1b[2K\x1b[1A\x1b[2K\x1b[?25h\r")  # both lines are erased, and the cursor is back


def test_without_colours_there_are_bars():
    printed, _ = on_terminal(BARS, NO_COLOR="1")
    assert any(line.startswith("resize_images") for line in lines(printed))
    assert not re.search(r"\x1b\[[\d;]*[34]\d", printed)


def test_a_terminal_that_cannot_move_the_cursor_shows_messages_only():
    assert on_terminal(BARS, TERM="dumb") == ("A message.\r\n", 0)


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}])
def test_other_output_has_neither_bars_nor_escape_codes(environment):
    ended = subprocess.run(
        [sys.executable, "-c", BARS], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    assert (ended.stdout, ended.stderr) == ("A message.\n", "")


def test_a_stopped_command_leaves_its_message_and_no_bar():
    printed, status = on_terminal(STOPPED)
    assert status == 128 + signal.SIGTERM
    assert any(line.startswith("Training") for line in lines(printed))
    message = printed[printed.rindex("\x1b[?25h") :]
    assert lines(message) == ["Error: Terminated. Finished work is kept: run the same command to resume."]


@pytest.mark.parametrize(
    ("total", "completed", "unit", "seconds", "text"),
    [
        (10, 4, "", 8.0, "4/10, 2 s each, 0:00:12 left"),
        (3e9, 1.5e9, "bytes", 100.0, "1.5 GB/3.0 GB, 15.0 MB/s, 0:01:40 left"),
        (26, 0, "", 3.0, "0/26"),
        (None, 500, "", 2.0, "500, 250/s"),
        (26, 9, "nodes", 3725.0, "9/26, 1:02:05"),
    ],
)
def test_numbers_of_a_bar(total, completed, unit, seconds, text):
    clock = iter([0.0, *[seconds] * 10])
    display = progress.Progress(get_time=lambda: next(clock), disable=True)
    display.add_task("", total=total, completed=completed, before=0, unit=unit)
    assert progress._Numbers().render(display.tasks[0]).plain == text


def test_a_file_is_read_with_progress(tmp_path):
    path = tmp_path / "images.zip"
    path.write_bytes(b"content")
    with progress.open_with_progress(path, "Unpacking images.zip") as file:
        assert file.read() == b"content"
    assert list(progress.track("abc", "Spelling", 3)) == ["a", "b", "c"]
    assert progress._display_on(progress.get_console()).tasks == []
