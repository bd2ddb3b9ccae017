import os
import subprocess
import sys
from pathlib import Path

import cxr_pipeline

FAKE = """
import os, types
os.write(2, b"noise of a library\\n")
settings = {"backend": os.environ["KERAS_BACKEND"]}
names = ("floatx", "epsilon", "image_data_format")
setters = {f"set_{name}": lambda value, name=name: settings.update({name: value}) for name in names}
config = types.SimpleNamespace(**setters)
"""


def test_keras_is_imported_quietly_and_with_the_settings_of_networks(tmp_path):
    (tmp_path / "keras.py").write_text(FAKE)
    path = os.pathsep.join([str(tmp_path), str(Path(cxr_pipeline.__file__).parents[1])])
    variables = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-c", "import cxr_pipeline, keras; print(keras.settings)"]
    imported = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert imported.stderr == ""
    networks = {"backend": "tensorflow", "floatx": "float32", "epsilon": 1e-07, "image_data_format": "channels_last"}
    assert imported.stdout == f"{networks}\n"
