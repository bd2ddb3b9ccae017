"""What the tests of a report share."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from matplotlib.figure import Figure

Measure = tuple[float | None, float | None, float | None]


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Figure]]:
    """Keeps each figure that a module draws instead of turning it into bytes."""

    def keep_figures(module: ModuleType) -> list[Figure]:
        kept: list[Figure] = []
        monkeypatch.setattr(module, "png", lambda figure: kept.append(figure) or b"")
        return kept

    return keep_figures


@pytest.fixture
def said_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[str]]:
    """Keeps what a module's figures say that have nothing to draw."""

    def keep_words(module: ModuleType) -> list[str]:
        kept: list[str] = []
        monkeypatch.setattr(module, "words", lambda text: kept.append(text) or b"")
        return kept

    return keep_words


def _metrics_of(clustered_by: str = "patient", **changed: Measure) -> dict[str, Any]:
    measures = {
        "auc": (0.889, 0.851, 0.924),
        "sensitivity": (0.828, 0.75, 0.9),
        "specificity": (0.783, 0.69, 0.86),
        "precision": (0.772, 0.68, 0.86),
        **changed,
    }
    return {
        "prevalence": 0.487,
        "intervals": {"replicates": 2000, "confidence": 0.95, "clustered_by": clustered_by},
        "metrics": _measured(**measures),
        "per_class": {"effusion": _measured(**measures)},
    }


def _data_report(
    *, n_unknown: int = 0, n_patients: int = 640, sources: dict[str, bool] | None = None
) -> dict[str, Any]:
    sources = {"images": True} if sources is None else sources
    return {
        "phantom": False,
        "n_images": 791,
        "n_patients": n_patients,
        "n_images_without_patient": n_unknown,
        "sources": {name: {"has_patients": has_patients} for name, has_patients in sources.items()},
    }


def _counts(**test: int) -> dict[str, dict[str, int | None]]:
    return {
        "train": {"nofinding": 1284, "effusion": 270, "patients": 500},
        "validation": {"nofinding": 61, "effusion": 57, "patients": 70},
        "test": {"nofinding": 61, "effusion": 58, "patients": 70, **test},
    }


def _source_counts(**sources: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    sources = sources or {"images": (1554, 118, 119)}
    return {name: dict(zip(("train", "validation", "test"), images, strict=True)) for name, images in sources.items()}


def _measured(**measures: Measure) -> dict[str, dict[str, float | None]]:
    return {name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in measures.items()}


@pytest.fixture(scope="session")
def measured() -> Callable[..., Any]:
    """Measures by name, each of value, low and high."""
    return _measured


@pytest.fixture(scope="session")
def metrics_of() -> Callable[..., Any]:
    """The metrics of a good binary model, with some measures changed."""
    return _metrics_of


@pytest.fixture(scope="session")
def data_report() -> Callable[..., Any]:
    """The data report of 791 images."""
    return _data_report


@pytest.fixture(scope="session")
def counts() -> Callable[..., Any]:
    """Images of each class and split, with those of the test changed."""
    return _counts


@pytest.fixture(scope="session")
def source_counts() -> Callable[..., Any]:
    """Images of each source for training, validation and test."""
    return _source_counts
