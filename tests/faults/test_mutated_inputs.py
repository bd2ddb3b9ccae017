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

import pytest
from kedro_process import _context
from options import FIRST, INPUTS, KEPT, SEED
from readers import READERS, Reader

pytestmark = pytest.mark.faults

# A decoder has at most 10 s; other processes may slow it down.
MAX_SECONDS = 20
MAX_BYTES = 2 * 2**30
# Decoders of images are fast, and written in C.
SHARES = {name: 5 if name in ("PNG", "JPEG", "TIFF", "BMP, WEBP, GIF", "DICOM") else 1 for name in READERS}
PATIENT = ("Doe^Jane", "MRN-4711")

# Number of an input, whether it was read, and what is wrong with that, if anything.
Outcome = tuple[int, bool, str | None]


@pytest.mark.parametrize("name", READERS)
def test_mutated_inputs(name: str, tmp_path: Path) -> None:
    n_inputs = -(-INPUTS * SHARES[name] // sum(SHARES.values()))
    number, end = FIRST, FIRST + n_inputs
    n_read, faults = 0, []
    while number < end:
        folder = tmp_path / str(number)
        folder.mkdir()
        for last, was_read, fault in outcomes(name, number, end, folder):
            number = last + 1
            n_read += was_read
            if fault:
                faults.append(f"{KEPT}/{name}-{SEED}-{last}: {fault}")
    print(f"\n{name}: {n_inputs} inputs, {n_read} read, {len(faults)} faults")
    assert not faults, "\n".join(faults[:20])


def outcomes(name: str, first: int, end: int, folder: Path) -> Iterator[Outcome]:
    """Read inputs in a process, until all are read or one has ended it."""
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=read_all, args=(name, first, end, folder, theirs))
    process.start()
    theirs.close()
    last = first - 1
    fault = f"no answer within {6 * MAX_SECONDS} s"
    try:
        while last < end - 1 and ours.poll(6 * MAX_SECONDS):
            outcome = ours.recv()
            last = outcome[0]
            yield outcome
    except EOFError:
        process.join()
        fault = f"status {process.exitcode}: {(folder / 'stderr').read_text(errors='replace')[-500:]}"
    process.kill()
    process.join()
    if last < end - 1 and process.exitcode != 0:
        assert (KEPT / f"{name}-{SEED}-{last + 1}").exists(), fault
        yield last + 1, False, fault


def read_all(name: str, first: int, end: int, folder: Path, results: Connection) -> None:
    """Read inputs, and send the outcome of each."""
    os.environ["CXR_PSEUDONYM_KEY"] = "k" * 32
    os.dup2(os.open(folder / "stderr", os.O_WRONLY | os.O_CREAT), 2)
    shown: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: shown.append(record.getMessage())  # type: ignore[method-assign]
    logging.root.handlers, logging.root.level = [handler], logging.INFO
    warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
    (folder / "files").mkdir()
    KEPT.mkdir(parents=True, exist_ok=True)
    reader = READERS[name](folder / "files")
    contents = [reader.file.read_bytes(), *reader.others]
    # Also loads libraries, whose memory does not count.
    unchanged = [read(reader, content) for content in contents]
    assert unchanged[0] == (True, None), unchanged
    assert all(fault is None for _, fault in unchanged), unchanged
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 3 * MAX_BYTES, resource.RLIM_INFINITY))
    for number in range(first, end):
        rng = random.Random(f"{SEED}-{name}-{number}")
        content = reader.change(rng, rng.choice(contents), contents)
        kept = KEPT / f"{name}-{SEED}-{number}"
        kept.write_bytes(content)
        shown.clear()
        started = time.monotonic()
        was_read, fault = read(reader, content)
        seconds = time.monotonic() - started
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        if named := [text for text in shown if any(word in text for word in PATIENT)]:
            fault = f"a message shows the patient: {named[0][:200]}"
        elif seconds > MAX_SECONDS or peak > MAX_BYTES:
            fault = f"{seconds:.0f} s, {peak / 2**30:.1f} GiB"
        if fault is None:
            kept.unlink()
        results.send((number, was_read, fault))
        if peak > MAX_BYTES:
            return  # the peaks of the next inputs would not be seen


def read(reader: Reader, content: bytes) -> tuple[bool, str | None]:
    """Return whether the content was read, and what is wrong with the outcome."""
    from cxr_pipeline.framework.exit import explain

    # Another file, because a reader may keep the old one open or mapped.
    reader.file.unlink(missing_ok=True)
    reader.file.write_bytes(content)
    try:
        reader.read()
    except BaseException as error:
        if explain(error) is not None:
            return False, None
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
        places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-3:])
        return False, f"{type(error).__name__}: {str(error)[:200]} ({places})"
    return True, None
