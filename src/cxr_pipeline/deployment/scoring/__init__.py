"""Score any number of new images in constant memory, with resume after a kill."""

from cxr_pipeline.deployment.scoring.folder import Predictions, score_folder, summarise
