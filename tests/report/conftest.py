"""Documents of a plausible run, a reader of HTML pages, and access to figures before they become bytes."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.figures.style import message

Measure = tuple[float | None, float | None, float | None]


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Figure]]:
    """Collect the figures that a module draws, instead of their bytes."""

    def collect(module: ModuleType) -> list[Figure]:
        figures: list[Figure] = []
        monkeypatch.setattr(module, "png", lambda figure: figures.append(figure) or b"")
        return figures

    return collect


@pytest.fixture
def messages_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[str]]:
    """Collect the messages of a module's figures that have nothing to draw."""

    def collect(module: ModuleType) -> list[str]:
        messages: list[str] = []
        monkeypatch.setattr(module, "message", lambda text: messages.append(text) or b"")
        return messages

    return collect


@dataclass
class HtmlPage(HTMLParser):
    """The elements of a page, its table rows, and the text of each section (``""`` is its top)."""

    html: str
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)
    _section: str = ""
    _in_cell: bool = False

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in ("section", "title", "style"):
            self._section = attributes.get("id") or tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("section", "title", "style"):
            self._section = ""
        if tag in ("td", "th"):
            self.rows[-1][-1] = " ".join(self.rows[-1][-1].split())
            self._in_cell = False

    def handle_data(self, data: str) -> None:
        self.text[self._section] = self.text.get(self._section, "") + data
        if self._in_cell:
            self.rows[-1][-1] += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def read_page() -> type[HtmlPage]:
    """Parse a page as a browser would."""
    return HtmlPage


def _measured(**measures: Measure) -> dict[str, dict[str, float | None]]:
    return {name: dict(zip(("value", "low", "high"), values, strict=True)) for name, values in measures.items()}


def _metrics_of(clustered_by: str = "patient", **changed: Measure) -> dict[str, Any]:
    measures = {
        "auc": (0.889, 0.851, 0.924),
        "sensitivity": (0.828, 0.75, 0.9),
        "specificity": (0.783, 0.69, 0.86),
        "precision": (0.772, None, None),
        **changed,
    }
    return {
        "phantom": False,
        "split": "test",
        "n_images": 119,
        "prevalence": 0.487,
        "thresholds": {"effusion": 0.4137},
        "images_digest": "7" * 64,
        "intervals": {"replicates": 2000, "confidence": 0.95, "clustered_by": clustered_by},
        "metrics": _measured(**measures),
        "per_class": {"effusion": _measured(**measures)},
    }


def _data_report(
    *, n_unknown: int = 0, n_patients: int = 640, sources: dict[str, bool] | None = None
) -> dict[str, Any]:
    source = {
        "rows_in_source": 112120,
        "left_out": {"other_classes": 6, "listed": 3, "uncertain": 0},
        "not_on_disk": 111311,
        "manifest": 791,
        "quarantine": {"truncated": 5, "exact_duplicate": 4},
        "n_patients": n_patients,
        "notes": ["Labels are from <table>.csv."],
    }
    named = {"images": True} if sources is None else sources
    return {
        "phantom": False,
        "data_digest": "9b" * 32,
        "n_images": 791,
        "n_patients": n_patients,
        "n_images_without_patient": n_unknown,
        "classes": {"nofinding": 406, "effusion": 385},
        "sources": {name: {**source, "has_patients": has_patients} for name, has_patients in named.items()},
        "age": {"n_known": 640, "median": 48.5, "oldest": None},
        "sex": {"F": 310, "M": 330, "unknown": 151},
        "view": {"PA": 791},
    }


def _counts(**test: int) -> dict[str, dict[str, int | None]]:
    return {
        "train": {"nofinding": 1284, "effusion": 270, "patients": 500},
        "validation": {"nofinding": 61, "effusion": 57, "patients": 70},
        "test": {"nofinding": 61, "effusion": 58, "patients": None, **test},
    }


def _source_counts(**sources: tuple[int, int, int]) -> dict[str, dict[str, int]]:
    sources = sources or {"images": (1554, 118, 119)}
    return {name: dict(zip(("train", "validation", "test"), images, strict=True)) for name, images in sources.items()}


@pytest.fixture(scope="session")
def measured() -> Callable[..., Any]:
    """Make metrics by name, each of value, low and high."""
    return _measured


@pytest.fixture(scope="session")
def metrics_of() -> Callable[..., Any]:
    """Make the metrics of a good binary model, with some of them changed."""
    return _metrics_of


@pytest.fixture(scope="session")
def data_report() -> Callable[..., Any]:
    """Make the data report of 791 images."""
    return _data_report


@pytest.fixture(scope="session")
def counts() -> Callable[..., Any]:
    """Make the images by split and class, with those of the test split changed."""
    return _counts


@pytest.fixture(scope="session")
def source_counts() -> Callable[..., Any]:
    """Make the images by source for training, validation and test."""
    return _source_counts


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small figure."""
    return message("a figure")


@pytest.fixture
def content() -> ReportContent:
    """The content of a report without warnings, of a binary task."""
    frame = {"source": "images", "image": ["patient-4711.png"] * 9, "reason": ["truncated"] * 7 + ["empty"] * 2}
    return ReportContent(
        task={"name": "effusion", "title": "Pleural effusion", "kind": "binary", "classes": ["nofinding", "effusion"]},
        metrics=_metrics_of(brier=(0.14, 0.12, 0.17)),
        decision_rule={
            "classes": ["nofinding", "effusion"],
            "thresholds": {"effusion": 0.4137},
            "calibration": {"method": "isotonic", "scores": [0.1] * 40, "message": ""},
            "policy": {"rule": "youden"},
            "policy_met": True,
            "message": "At 0.4137 sensitivity is 0.930.",
            "fitted_on": {"split": "validation", "n_images": 118, "n_positive": 57},
        },
        data_report=_data_report(),
        quarantine=pd.DataFrame(frame).assign(detail="same as 4711.png"),
        split_counts=_counts(),
        source_counts=_source_counts(),
        history=pd.DataFrame({"phase": ["frozen", "fine_tuning"], "epoch": [1, 2], "val_auc": [0.7, float("nan")],
                              "learning_rate": [1e-3, 5e-5]}),
        figures={},
        parameters={"task.uncertain": "unknown", "splitting.train": 0.75, "training.monitor": "val_auc",
                    "training.learning_rate": 0.001, "training.patience": None, "model.weights": "imagenet"},
        versions={"git commit": "0f3a9c1d", "python": "3.11.7"},
        model={"name": "densenet121", "weights": "imagenet", "n_parameters": 7168833, "size": 224},
    )  # fmt: skip


@pytest.fixture
def changed(content: ReportContent) -> Callable[..., ReportContent]:
    """Change single entries of the documents of ``content``: ``changed(metrics={"phantom": True})``."""

    def change(**blocks: dict[str, Any]) -> ReportContent:
        return replace(content, **{name: {**getattr(content, name), **values} for name, values in blocks.items()})

    return change
