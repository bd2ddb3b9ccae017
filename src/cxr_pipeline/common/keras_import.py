"""The first import of Keras and TensorFlow: without their messages, and with the settings that networks expect."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType


def prepare() -> None:
    """Prepare the next imports of Keras and TensorFlow in this process."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in ("keras", "tensorflow") else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _quiet():
            super().exec_module(module)
        if module.__name__ == "keras":
            # ~/.keras/keras.json may have other values.
            module.config.set_floatx("float32")
            module.config.set_epsilon(1e-7)
            module.config.set_image_data_format("channels_last")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the block writes to the standard error of the process, unless it fails."""
    # TensorFlow's C++ libraries log before they read their logging level.
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(standard_error, log.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
