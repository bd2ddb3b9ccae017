"""Decoding with GDCM in another process, because GDCM ends its process on some damaged streams.

This file is also the script of that process, and therefore imports nothing of this package.
"""

import atexit
import signal
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any

MAX_CPU_SECONDS = 10
_MAX_ADDRESS_SPACE = 4 * 2**30
# Exit statuses that do not depend on the image.
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)


class _Decoder:
    """A process that decodes one image after another."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            # -P: the modules beside this file must not hide others of the same name.
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for this process, which closes the connection.
                start_new_session=True,
            )

    def end(self) -> int:
        """End the process, unless it has ended, and return its exit status."""
        self.connection.close()
        self.process.kill()
        return self.process.wait()


_idle: SimpleQueue[_Decoder] = SimpleQueue()


def decode(pixel_data: bytes, syntax: str, options: Mapping[str, Any]) -> bytes:
    """Decode compressed pixel data in a transfer syntax with the options of `pydicom.pixels.as_pixel_options`.

    Returns the bytes of the pixels, row by row. Each thread that decodes at the same time has its own process, which is
    kept for the next image. `ValueError` is raised for damaged pixel data, `TimeoutError` after ``MAX_CPU_SECONDS``,
    and `MemoryError` if the process could not be started, or was killed twice, most likely because memory ran out.
    """
    try:
        return _decode_once(pixel_data, syntax, options)
    except MemoryError:  # the process may also have been killed while it waited for an image
        return _decode_once(pixel_data, syntax, options)


def _decode_once(pixel_data: bytes, syntax: str, options: Mapping[str, Any]) -> bytes:
    try:
        decoder = _idle.get_nowait()
    except Empty:
        try:
            decoder = _Decoder()
        except OSError as error:  # too little memory, or too many processes or open files
            raise MemoryError("the decoder could not be started") from error
    try:
        decoder.connection.send((pixel_data, syntax, dict(options)))
        pixels = decoder.connection.recv_bytes()
    except BaseException as error:
        status = decoder.end()
        if not isinstance(error, EOFError | OSError):
            raise
        if status == -signal.SIGXCPU:
            raise TimeoutError(f"decoding took more than {MAX_CPU_SECONDS} s") from error
        if status in _KILLED:
            raise MemoryError("the decoder was killed") from error
        raise ValueError("the decoder ended") from error
    _idle.put(decoder)
    if not pixels:
        raise ValueError("damaged pixel data")
    return pixels


@atexit.register
def _end_all() -> None:
    while not _idle.empty():
        _idle.get().end()


def _serve(connection: Connection) -> None:
    """Decode what arrives until the connection is closed; the answer to damaged pixel data is empty."""
    import resource
    import time

    from pydicom.pixels import get_decoder

    resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE, _MAX_ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    while True:
        try:
            pixel_data, syntax, options = connection.recv()
        except EOFError:
            return
        limit = int(time.process_time()) + MAX_CPU_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard_limit))
        try:
            pixels, _ = get_decoder(syntax).as_array(pixel_data, decoding_plugin="gdcm", **options)
            answer = pixels.tobytes()
        except Exception:  # the decoders do not document what they raise for damaged pixels
            answer = b""
        connection.send_bytes(answer)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
