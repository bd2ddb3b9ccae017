"""Processes of the kedro command, forked from one that has already imported the large libraries."""

import atexit
import faulthandler
import multiprocessing
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

# Not the package itself, which each process imports from its project folder.
_PRELOADED = [
    *("tensorflow", "keras", "mlflow", "mlflow.pyfunc", "kedro.framework.cli.cli", "kedro.framework.session"),
    *("cv2", "dask", "distributed", "jinja2", "matplotlib.figure", "optuna", "pandas", "pandera", "pydicom"),
    *("rich.progress", "scipy.stats", "sklearn.metrics", "sqlalchemy"),
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_PRELOADED)


class KedroProcess:
    """A running kedro command in a project folder, used like a `subprocess.Popen`; its output goes to a file."""

    def __init__(self, folder: Path, *arguments: str, output: Path, **environment: str) -> None:
        self.output = output
        variables = {**os.environ, "COLUMNS": "200", **environment}
        # Daemon processes cannot start child processes.
        self._process = _context.Process(target=_run, args=(folder, arguments, output, variables), daemon=False)
        self._process.start()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float = 600) -> int:
        """Wait for the end and return the exit status; kill the process after ``timeout`` seconds."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(self.printed())
        return self._process.exitcode

    def send_signal(self, signum: int) -> None:
        """Send a signal if the process is still running."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill the process if it is still running, and wait for its end."""
        self._process.kill()
        self._process.join()

    def printed(self) -> str:
        """Return the output so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")


def _run(folder: Path, arguments: tuple[str, ...], output: Path, environment: dict[str, str]) -> None:
    # The fork server or the shell that started it may ignore SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stream: IO[Any] = output.open("ab")
    for descriptor in (1, 2):
        os.dup2(stream.fileno(), descriptor)
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8")
    faulthandler.enable()  # an abort in a library then says where
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path = [entry for entry in sys.path if entry != str(Path(__file__).parent)]
    sys.argv = ["kedro", *arguments]
    from kedro.framework.cli.cli import main

    try:
        main()
    finally:
        # multiprocessing does not run exit functions.
        atexit._run_exitfuncs()
