"""Scoring of new films: any number of them, in flat memory, from where a killed run left off."""

from cxr_pipeline.data.film_folder import FILM_SUFFIXES, FilmFolder, find_films
from cxr_pipeline.deployment.scoring.checks import check_classes
from cxr_pipeline.deployment.scoring.folder import score_folder
from cxr_pipeline.deployment.scoring.heatmaps import map_name
from cxr_pipeline.deployment.scoring.predictions import Predictions, summarise

__all__ = [
    "FILM_SUFFIXES",
    "FilmFolder",
    "Predictions",
    "check_classes",
    "find_films",
    "map_name",
    "score_folder",
    "summarise",
]
