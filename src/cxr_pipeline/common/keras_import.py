"""The first import of Keras and TensorFlow: without their messages, and with the settings that networks expect."""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType


def prepare() -> None:
    """Prepare the next imports of Keras and TensorFlow in this process."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds Keras and TensorFlow like Python, and adds to what their import does."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in ("keras", "tensorflow"):
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _prepared(spec.loader.exec_module)  # type: ignore
        return spec


def _prepared(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def prepared(module: ModuleType) -> None:
        with _quiet():
            execute(module)
        if module.__name__ == "keras":
            # ~/.keras/keras.json may have other values.
            module.config.set_floatx("float32")
            module.config.set_epsilon(1e-7)
            module.config.set_image_data_format("channels_last")

    return prepared


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the block writes to the standard error of the process, unless it fails.

    TensorFlow's C++ libraries log before they read their logging level.
    """
    sys.stderr.flush()
    before = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)
            if failed:
                log.seek(0)
                os.write(2, log.read())
