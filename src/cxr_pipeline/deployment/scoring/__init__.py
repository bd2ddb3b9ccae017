"""Scoring of new images: any number of them, in flat memory, from where a killed run left off."""

from cxr_pipeline.data.image_folder import IMAGE_SUFFIXES, ImageFolder, find_images
from cxr_pipeline.deployment.scoring.checks import check_classes
from cxr_pipeline.deployment.scoring.folder import score_folder
from cxr_pipeline.deployment.scoring.heatmaps import map_name
from cxr_pipeline.deployment.scoring.predictions import Predictions, summarise

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageFolder",
    "Predictions",
    "check_classes",
    "find_images",
    "map_name",
    "score_folder",
    "summarise",
]
