"""Score new images: any number of them, in flat memory, resumable after a kill."""

from cxr_pipeline.deployment.scoring.folder import score_folder
from cxr_pipeline.deployment.scoring.predictions import Predictions, summarise
