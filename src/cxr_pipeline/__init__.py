"""Chest X-ray classifiers that can be trusted, compared, versioned and retrained."""

import os

__version__ = "0.1.0"

# Libraries read these when they are first imported; what the user has set stays.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # with seven, each epoch would wait for minutes
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
