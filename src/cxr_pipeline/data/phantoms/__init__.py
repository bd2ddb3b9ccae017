"""Drawn chest films that a radiologist would recognise as a sketch: for demonstrations and tests, never for results."""

from cxr_pipeline.data.phantoms.anatomy import Anatomy, draw_anatomy
from cxr_pipeline.data.phantoms.film import draw_film
from cxr_pipeline.data.phantoms.findings import FINDINGS, Box
from cxr_pipeline.data.phantoms.release import PhantomFilm, draw_patient, write_release

__all__ = [
    "FINDINGS",
    "Anatomy",
    "Box",
    "PhantomFilm",
    "draw_anatomy",
    "draw_film",
    "draw_patient",
    "write_release",
]
