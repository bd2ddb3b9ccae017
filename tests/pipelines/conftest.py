"""Fixtures of the tests of the stages."""

import pytest
from phantom_patients import features_of, make_classifier

from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.framework.config import Folders
from cxr_pipeline.tracking import aliases, artifacts, promotion_records


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


@pytest.fixture
def calls(monkeypatch):
    """The changes made in MLflow, where version 3 is the champion."""
    calls = []

    def record(name, result=None):
        return lambda *args, **kwargs: calls.append((name, *args, kwargs)) or result

    monkeypatch.setattr(aliases, "aliases_of", lambda model: {"champion": 3})
    monkeypatch.setattr(artifacts, "log_texts", record("log_texts"))
    for name in ("promote", "keep_as_challenger", "set_reference"):
        monkeypatch.setattr(aliases, name, record(name, {}))
    for name in ("note_reasons", "note_decision"):
        monkeypatch.setattr(promotion_records, name, record(name))
    return calls
