"""Chest X-ray classifiers that can be trusted, compared, versioned and retrained."""

import os

__version__ = "0.1.0"

# Libraries read these when they are first imported; values set by the user are kept.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# With seven retries of two minutes, a run would wait longer for an unavailable server than its training takes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Dask logs every worker that comes and goes, and lost connections when a cluster is closed, in the processes of the
# workers too. Errors of the work arrive as exceptions.
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "critical")
