"""Hooks of a run: checks before any work, a lock, MLflow tracking, and a summary at the end."""

from cxr_pipeline.framework.hooks.consistency import Consistency
from cxr_pipeline.framework.hooks.lifecycle import Lifecycle
from cxr_pipeline.framework.hooks.preflight import Preflight
from cxr_pipeline.framework.hooks.summary import Summary
