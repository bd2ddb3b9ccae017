"""Fixtures of the tests of the stages."""

import pytest
from phantom_patients import features_of, make_classifier

from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.framework.config import Folders


@pytest.fixture
def folders(tmp_path):
    """The folders of a project, each of its own name below the folder of the test."""
    return Folders(**{name: tmp_path / name for name in Folders.model_fields})


@pytest.fixture(scope="session")
def classifier():
    """A classifier that recognises ill phantoms."""
    return make_classifier()


@pytest.fixture(scope="session")
def profile(classifier):
    """Its reference profile."""
    sides = [features_of(classifier, patients) for patients in (range(1, 121), range(121, 221))]
    return ReferenceProfile.fit(*sides, outputs=("ill",), seed=0)
