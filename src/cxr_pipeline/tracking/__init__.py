"""Everything that the project reads from MLflow and writes to it."""

from cxr_pipeline.tracking.aliases import model_name
from cxr_pipeline.tracking.model_index import measured_models
from cxr_pipeline.tracking.runs import (
    active_run_id,
    end_active_run,
    last_run_id,
    log_epoch,
    log_params,
    log_summary,
    nest_run,
    set_tags,
    start_run,
)
from cxr_pipeline.tracking.server import connect, run_url, unavailable_message, version_url
from cxr_pipeline.tracking.versions import (
    ModelVersion,
    load_classifier,
    register_version,
    resolve_version,
    version_in_use,
)
