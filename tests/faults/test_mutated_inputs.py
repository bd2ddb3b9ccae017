"""Changed inputs of every reader: a result, or an error of the documented kind, within a budget, and no crash.

The inputs are read in another process, so that a crash of a library is an outcome. The input of each fault is kept.
"""

import logging
import os
import random
import resource
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest
from kedro_process import _context
from options import FIRST, INPUTS, KEPT, SEED
from readers import READERS, Reader

pytestmark = pytest.mark.faults

# A decoder has at most 10 s; other processes may slow it down.
MAX_SECONDS = 20
MAX_BYTES = 2 * 2**30
# Decoders of images are fast, and written in C.
SHARES = dict.fromkeys(("PNG", "JPEG", "TIFF", "BMP, WEBP, GIF", "DICOM"), 5)
PATIENT = ("Doe^Jane", "MRN-4711")


class Outcome(NamedTuple):
    """What happened to an input, and what is wrong with that, if anything."""

    number: int
    change: str
    was_read: bool
    fault: str | None
    content: bytes = b""


class Messages(logging.Handler):
    """Collects what a user would see."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs(name: str, tmp_path: Path) -> None:
    share = -(-INPUTS * SHARES.get(name, 1) // sum(SHARES.get(each, 1) for each in READERS))
    number, end = FIRST, FIRST + share
    n_read, faults = 0, []
    KEPT.mkdir(parents=True, exist_ok=True)
    while number < end:
        folder = tmp_path / str(number)
        folder.mkdir()
        for outcome in outcomes(name, number, end, folder):
            number = outcome.number + 1
            n_read += outcome.was_read
            if outcome.fault:
                case = f"{name}-{SEED}-{outcome.number}"
                (KEPT / case).write_bytes(outcome.content)
                faults.append(f"{KEPT / case} ({outcome.change}): {outcome.fault}")
    print(f"\n{name}: {share} inputs, {n_read} read, {len(faults)} faults")
    assert not faults, "\n".join(faults[:20])


def outcomes(name: str, first: int, end: int, folder: Path) -> Iterator[Outcome]:
    """Read inputs in a process until it has read all or was ended by one."""
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=read_all, args=(name, first, end, folder, theirs))
    process.start()
    theirs.close()
    number = first - 1
    fault = f"no answer within {6 * MAX_SECONDS} s"
    try:
        while number < end - 1 and ours.poll(6 * MAX_SECONDS):
            outcome = ours.recv()
            number = outcome.number
            yield outcome
    except EOFError:
        process.join()
        fault = f"the process ended with {process.exitcode}: {(folder / 'stderr').read_text(errors='replace')[-500:]}"
    process.kill()
    process.join()
    assert (folder / "input").exists(), fault
    if number < end - 1 and process.exitcode != 0:
        yield Outcome(number + 1, "", False, fault, (folder / "input").read_bytes())


def read_all(name: str, first: int, end: int, folder: Path, results: Connection) -> None:
    """Read inputs, and send the outcome of each."""
    os.environ["CXR_PSEUDONYM_KEY"] = "k" * 32
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    messages = Messages()
    logging.root.handlers, logging.root.level = [messages], logging.INFO
    warnings.showwarning = lambda message, *_, **__: messages.texts.append(str(message))
    place = folder / "files"
    place.mkdir()
    reader = READERS[name](place)
    # Also loads libraries, whose memory does not count.
    before_changes = [read(reader, content) for content in reader.contents]
    assert before_changes[0] == (True, None), before_changes
    assert all(fault is None for _, fault in before_changes), before_changes
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * MAX_BYTES, resource.RLIM_INFINITY))
    for number in range(first, end):
        rng = random.Random(f"{SEED}-{name}-{number}")
        change, content = reader.change(rng, rng.choice(reader.contents), reader.contents)
        (folder / "input").write_bytes(content)
        messages.texts.clear()
        started = time.monotonic()
        was_read, fault = read(reader, content)
        seconds = time.monotonic() - started
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        shown = [text for text in messages.texts if any(word in text for word in PATIENT)]
        if shown:
            fault = f"a message shows the patient: {shown[0][:200]}"
        elif seconds > MAX_SECONDS or peak > MAX_BYTES:
            fault = f"{seconds:.0f} s, {peak / 2**30:.1f} GiB"
        results.send(Outcome(number, change, was_read, fault, content if fault else b""))
        if peak > MAX_BYTES:
            return  # the peaks of the next inputs would not be seen


def read(reader: Reader, content: bytes) -> tuple[bool, str | None]:
    """Return whether the content was read, and what is wrong with the outcome."""
    try:
        reader.read(content)
    except reader.errors:
        return False, None
    except BaseException as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:])
        return False, f"{type(error).__name__}: {str(error)[:200]} ({places})"
    return True, None
