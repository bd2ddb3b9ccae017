import os
import subprocess
import sys
from pathlib import Path

import cxr_pipeline

FAKE = """
import os, types
os.write(2, b"noise of a library\\n")
{failure}
settings = {{"backend": os.environ["KERAS_BACKEND"]}}
names = ("floatx", "epsilon", "image_data_format")
setters = {{f"set_{{name}}": lambda value, name=name: settings.update({{name: value}}) for name in names}}
config = types.SimpleNamespace(**setters)
"""


def import_fake(folder, failure=""):
    (folder / "keras.py").write_text(FAKE.format(failure=failure))
    path = os.pathsep.join([str(folder), str(Path(cxr_pipeline.__file__).parents[1])])
    variables = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", "import cxr_pipeline, keras; print(keras.settings)"]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


def test_keras_is_imported_quietly_and_with_the_settings_of_networks(tmp_path):
    imported = import_fake(tmp_path)
    assert imported.stderr == ""
    networks = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-07, "image_data_format": "channels_last"}
    assert imported.stdout == f"{networks}\n"


def test_an_import_that_fails_shows_what_was_written(tmp_path):
    failed = import_fake(tmp_path, "raise ImportError('no library')")
    assert failed.returncode == 1
    assert "noise of a library" in failed.stderr
    assert "no library" in failed.stderr
