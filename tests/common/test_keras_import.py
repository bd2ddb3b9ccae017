import os
import subprocess
import sys
from pathlib import Path

from cxr_pipeline.common import keras_import

FAKE = """
import os, types
os.write(2, b"noise of a library\\n")
{failure}
settings = {{}}
names = ("floatx", "epsilon", "image_data_format")
setters = {{f"set_{{name}}": lambda value, name=name: settings.update({{name: value}}) for name in names}}
config = types.SimpleNamespace(**setters)
"""
MAIN = "from cxr_pipeline.common.keras_import import prepare; prepare(); import keras; print(keras.settings)"


def import_fake(folder: Path, failure: str = "") -> "subprocess.CompletedProcess[str]":
    (folder / "keras.py").write_text(FAKE.format(failure=failure))
    path = os.pathsep.join([str(folder), str(Path(keras_import.__file__).parents[2])])
    variables = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", MAIN], env=variables, capture_output=True, text=True, check=False)


def test_keras_is_imported_quietly_and_with_the_settings_of_networks(tmp_path: Path) -> None:
    imported = import_fake(tmp_path)
    assert imported.stderr == ""
    expected = {"floatx": "float32", "epsilon": 1e-07, "image_data_format": "channels_last"}
    assert imported.stdout == f"{expected}\n"


def test_an_import_that_fails_shows_what_was_written(tmp_path: Path) -> None:
    failed = import_fake(tmp_path, "raise ImportError('no library')")
    assert failed.returncode == 1
    assert "noise of a library" in failed.stderr
    assert "no library" in failed.stderr


def test_the_backend_is_tensorflow() -> None:
    code = "import os, cxr_pipeline; print(os.environ['KERAS_BACKEND'])"
    variables = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(keras_import.__file__).parents[2])}
    printed = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=True)
    assert printed.stdout == "tensorflow\n"
