"""Every parameter of a task, as frozen models.

Kedro builds them from ``conf/*/parameters`` before any node runs, because they are in the signatures of the nodes. An
unknown key or an invalid value stops the run with a message that names it.
"""

from cxr_pipeline.framework.config.data import (
    Folders,
    Ingestion,
    Morphology,
    Resampling,
    Resolution,
    Sources,
    Splitting,
    Task,
)
from cxr_pipeline.framework.config.deployment import Drift, Retraining, Scoring
from cxr_pipeline.framework.config.experiments import Ablation, LearningCurve, Parallel, Tuning
from cxr_pipeline.framework.config.network import Network
from cxr_pipeline.framework.config.parameters import Parameters, plain
from cxr_pipeline.framework.config.training import (
    Augmentation,
    Evaluation,
    Sanity,
    Subgroups,
    Thresholds,
    Training,
)


class TaskParameters(Parameters):
    """All parameters of a task."""

    task: Task
    sources: Sources
    ingestion: Ingestion
    resolution: Resolution
    morphology: Morphology
    splitting: Splitting
    resampling: Resampling
    augmentation: Augmentation
    model: Network
    training: Training
    thresholds: Thresholds
    evaluation: Evaluation
    subgroups: Subgroups
    parallel: Parallel
    ablation: Ablation
    tuning: Tuning
    learning_curve: LearningCurve
    sanity: Sanity
    retraining: Retraining
    scoring: Scoring
    drift: Drift
