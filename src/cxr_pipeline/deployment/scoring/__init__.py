"""Score any number of new images in constant memory, with resume after a kill."""

from cxr_pipeline.deployment.scoring.folder import score_folder
from cxr_pipeline.deployment.scoring.predictions import Predictions, summarise
