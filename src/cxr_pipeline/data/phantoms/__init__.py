"""Simulated chest radiographs for demonstrations and tests."""

from cxr_pipeline.data.phantoms.radiograph import FINDINGS, Box
from cxr_pipeline.data.phantoms.release import PhantomImage, draw_patient, write_release
