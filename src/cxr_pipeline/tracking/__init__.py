"""What goes to MLflow and comes back: metrics of a run, versions of a model, all that was ever measured."""

from cxr_pipeline.tracking.leftovers import send_left
from cxr_pipeline.tracking.model_index import measured_models
from cxr_pipeline.tracking.naming import experiment_name, model_name
from cxr_pipeline.tracking.runs import end_active_run, end_killed, last_run_id, log_epoch, log_summary, nest_run
from cxr_pipeline.tracking.server import alone, check_server, run_url, version_url, why_away
from cxr_pipeline.tracking.versions import (
    ModelVersion,
    load_classifier,
    newest_version,
    register_version,
    resolve_version,
    version_in_use,
)

__all__ = [
    "ModelVersion",
    "alone",
    "check_server",
    "end_active_run",
    "end_killed",
    "experiment_name",
    "last_run_id",
    "load_classifier",
    "log_epoch",
    "log_summary",
    "measured_models",
    "model_name",
    "nest_run",
    "newest_version",
    "register_version",
    "resolve_version",
    "run_url",
    "send_left",
    "version_in_use",
    "version_url",
    "why_away",
]
