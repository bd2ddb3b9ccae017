"""Hooks of a run: checks before any work, MLflow tracking, a lock, and a summary at the end."""

from cxr_pipeline.framework.hooks.consistency import Consistency
from cxr_pipeline.framework.hooks.launching import Launching
from cxr_pipeline.framework.hooks.locking import Locking
from cxr_pipeline.framework.hooks.preflight import Preflight
from cxr_pipeline.framework.hooks.summary import Summary
from cxr_pipeline.framework.hooks.tracking import Tracking
