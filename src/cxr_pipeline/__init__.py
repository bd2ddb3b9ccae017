"""Chest X-ray classifiers that can be trusted, compared, versioned and retrained."""

import importlib
import os
from typing import Any

from cxr_pipeline.common import keras_import

__version__ = "0.1.0"

# Libraries read these when they are first imported; values set by the user are kept.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# The file .telemetry disables it in the project only, but the command can also be run elsewhere.
os.environ.setdefault("KEDRO_DISABLE_TELEMETRY", "true")
# With seven retries of two minutes, a run would wait longer for an unavailable server than its training takes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# Level 2 reports each start on a machine without a GPU as an error. TensorFlow raises other errors as exceptions.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Networks and losses use TensorFlow. The variable overrides ~/.keras/keras.json.
os.environ["KERAS_BACKEND"] = "tensorflow"
# Dask logs every worker that comes and goes, and lost connections when a cluster is closed, in the processes of the
# workers too. Errors of the work arrive as exceptions.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")

keras_import.prepare()


def __getattr__(name: str) -> Any:
    # Not an import at the top: it takes seconds, and every module of the package would import all others.
    if name == "load_classifier":
        return importlib.import_module("cxr_pipeline.framework.prediction").load_classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
