"""Drawn chest images that a radiologist would recognise as a sketch: for demonstrations and tests, never for results."""

from cxr_pipeline.data.phantoms.anatomy import Anatomy, draw_anatomy
from cxr_pipeline.data.phantoms.findings import FINDINGS, Box
from cxr_pipeline.data.phantoms.image import draw_image
from cxr_pipeline.data.phantoms.release import PhantomImage, draw_patient, write_release

__all__ = [
    "FINDINGS",
    "Anatomy",
    "Box",
    "PhantomImage",
    "draw_anatomy",
    "draw_image",
    "draw_patient",
    "write_release",
]
