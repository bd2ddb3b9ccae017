"""Every parameter of a task, as frozen models.

Kedro builds them from ``conf/*/parameters`` before any node runs, because they are in the signatures of the nodes. An
unknown key or an invalid value stops the run with a message that names it.
"""

from cxr_pipeline.framework.config.decisions import Evaluation, Scoring, Subgroups, Thresholds
from cxr_pipeline.framework.config.experiments import Ablation, Parallel
from cxr_pipeline.framework.config.images import Augmentation, Morphology, Resampling, Resolution, Splitting
from cxr_pipeline.framework.config.parameters import Parameters, plain
from cxr_pipeline.framework.config.retraining import Drift, Retraining
from cxr_pipeline.framework.config.sources import Folders, Ingestion, Sources, Task
from cxr_pipeline.framework.config.training import Network, Sanity, Training
from cxr_pipeline.framework.config.tuning import Tuning

TASKS = ("effusion", "pneumonia", "ailments", "findings", "abnormality", "chest14")
