"""Documents of a plausible run, a reader of HTML pages, and access to figures before they become bytes."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.deployment.drift.detection import detect_drift
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.evaluation.subgroups import ATTRIBUTES
from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.figures import style
from cxr_pipeline.report.formatting import wording

UNKNOWN = {"n_unknown": 119, "groups": {}}


@pytest.fixture
def drawn(monkeypatch):
    """Collect the figures that are drawn, and the messages that are drawn instead, in place of their bytes."""
    figures = []
    for name in ("png", "message"):
        monkeypatch.setattr(style, name, lambda figure, **_: figures.append(figure) or b"png")
    return figures


# Keys of documents have underscores, or start with the n of a number. Names of files, pipelines and parameters, which
# have underscores too, stand beside a dot or an equals sign, in quotation marks, or are marked as code.
RAW_KEY = re.compile(
    r'(?<![\w.=/"-])(?:[a-z0-9]+_)+[a-z0-9]+(?![\w.(/"])|\bn (?:images|patients|known|positive|parameters)\b'
)
NAMES = re.compile(r"“[^”]*”|\w+_(?:ablation|tuning): |\[y\]\(z\)")


def find_raw_keys(text):
    """Return the keys of documents in a text that a reader sees."""
    return RAW_KEY.findall(NAMES.sub("", text))


@pytest.fixture(scope="session")
def raw_keys():
    """Find keys of documents in the text of a page."""
    return find_raw_keys


class HtmlPage(HTMLParser):
    """The elements of a page, its table rows, and the text of each section (``""`` is its top).

    A page that shows a key of a document or a value of an enumeration as it is stored fails.
    """

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self.rows, self.text = html, [], [], {}
        self._section, self._readable, self._in_cell, self._in_code = "", "", False, False
        self.feed(html)
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]
        self.text = {name: " ".join(text.split()) for name, text in self.text.items()}
        assert find_raw_keys(self._readable) == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in ("section", "title", "style"):
            self._section = attributes.get("id") or tag
        if tag in ("div", "code"):
            self._in_code = tag == "code" or "code" in attributes.get("class", "").split()
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag in ("section", "title", "style"):
            self._section = ""
        if tag in ("td", "th"):
            cell = " ".join(self.rows[-1][-1].split())
            assert self._in_code or wording()["words"].get(cell, cell) == cell
            self._in_cell = False
        if tag in ("div", "code"):
            self._in_code = False

    def handle_data(self, data):
        self.text[self._section] = self.text.get(self._section, "") + data
        if self._in_cell:
            self.rows[-1][-1] += data
        if not self._in_code and self._section != "style":
            self._readable += data + " "

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="session")
def read_page():
    """Parse a page as a browser would."""
    return HtmlPage


@pytest.fixture
def check_page(browser, tmp_path):
    """Look at a page on a wide screen and a telephone, in both colour schemes, with axe."""
    from axe_playwright_python.sync_playwright import Axe

    def check(html):
        (tmp_path / "page.html").write_text(html)
        for width, scheme in ((1400, "light"), (390, "dark"), (390, "light")):
            # axe is a script, which the pages themselves forbid.
            screen = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
            page = browser.new_page(**screen, bypass_csp=True)
            page.goto((tmp_path / "page.html").as_uri())
            found = Axe().run(page).response["violations"]
            assert [each["id"] for each in found if each["impact"] in ("serious", "critical")] == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.close()

    return check


@pytest.fixture(scope="session")
def measured():
    """Make metrics by name, each of value, low and high."""
    ends = ("value", "low", "high")
    return lambda **measures: {name: dict(zip(ends, values, strict=True)) for name, values in measures.items()}


@pytest.fixture(scope="session")
def metrics_of(measured):
    """Make the metrics of a good binary model, with some of them changed."""

    def make(clustered_by="patient", **changed):
        usual = {"auc": (0.889, 0.851, 0.924), "sensitivity": (0.828, 0.75, 0.9), "specificity": (0.783, 0.69, 0.86)}
        measures = measured(**{**usual, "precision": (0.772, None, None), **changed})
        patients = {"patients": {"positive": 50, "negative": 55}}
        effective = {"effective_patients": {"positive": 45.2, "negative": 50.5}}
        images = {"phantom": False, "split": "test", "n_images": 119, "images_digest": "7" * 64, "prevalence": 0.487}
        return {
            **images,
            "thresholds": {"effusion": 0.4137},
            "support": {"effusion": {"n_known": 119, "n_positive": 58, **patients, **effective}},
            "intervals": {"replicates": 2000, "confidence": 0.95, "clustered_by": clustered_by},
            **{"metrics": measures, "per_class": {"effusion": measures}},
        }

    return make


@pytest.fixture(scope="session")
def data_report():
    """Make the data report of 791 images from sources with or without patients."""

    def make(*, n_unknown=0, n_patients=640, sources=None):
        rows = {"rows_in_source": 112120, "not_on_disk": 111311, "manifest": 791, "n_patients": n_patients}
        rows |= {"left_out": {"other_classes": 6, "listed": 3, "uncertain": 0}}
        rows |= {"quarantine": {"truncated": 5, "exact_duplicate": 4}, "notes": ["Labels are from <table>.csv."]}
        age, sex = {"n_known": 640, "median": 48.5, "oldest": None}, {"F": 310, "M": 330, "unknown": 151}
        return {
            **{"phantom": False, "data_digest": "9b" * 32, "n_images": 791, "n_patients": n_patients},
            **{"n_images_without_patient": n_unknown, "classes": {"nofinding": 406, "effusion": 385}},
            "sources": {name: {**rows, "has_patients": has} for name, has in (sources or {"images": True}).items()},
            **{"age": age, "sex": sex, "view": {"PA": 791}},
        }

    return make


@pytest.fixture(scope="session")
def counts():
    """Make the images by split and class, with those of the test split changed."""

    def make(**test):
        return {
            "train": {"nofinding": 1284, "effusion": 270, "images": 1554, "patients": 500},
            "validation": {"nofinding": 61, "effusion": 57, "images": 118, "patients": 70},
            "test": {"nofinding": 61, "effusion": 58, "images": 119, "patients": None, **test},
        }

    return make


@pytest.fixture(scope="session")
def png():
    """A small figure."""
    return style.message("a figure")


@pytest.fixture
def content(metrics_of, data_report, counts):
    """The content of a report without warnings, of a binary task."""
    frame = {"source": "images", "image": ["patient-4711.png"] * 9, "reason": ["truncated"] * 7 + ["empty"] * 2}
    return ReportContent(
        version={"name": "cxr-effusion", "version": 3, "run_id": "5f" * 16, "git_commit": "0f3a9c1d",
                 "registered": "2026-11-30 14:50:13 UTC"},
        warnings=[],
        task={"name": "effusion", "title": "Pleural effusion", "kind": "binary", "classes": ["nofinding", "effusion"]},
        metrics=metrics_of(brier=(0.14, 0.12, 0.17)),
        decision_rule={"kind": "binary", "classes": ["nofinding", "effusion"], "thresholds": {"effusion": 0.4137},
                       "calibration": {"method": "temperature", "message": "", "temperature": 1.5},
                       "policy": {"rule": "youden"}, "policy_met": True, "message": "At 0.4137 sensitivity is 0.930.",
                       "fitted_on": {"split": "validation", "n_images": 118, "n_positive": 57}},
        explanations={"method": "Grad-CAM", "layer": "relu", "localisation": {}, "randomised": {}},
        subgroups={"min_patients": 10, "confidence": 0.95, **dict.fromkeys(ATTRIBUTES, UNKNOWN)},
        data_report=data_report(),
        quarantine=pd.DataFrame(frame).assign(detail="same as 4711.png"),
        split_counts=counts(),
        source_counts={"images": {"train": 1554, "validation": 118, "test": 119}},
        sampling_plan=pd.DataFrame({"sha256": [str(n) for n in range(1554)], "count": 1, "weight": 1.0}),
        history=pd.DataFrame({"phase": ["frozen", "fine_tuning"], "epoch": [1, 2], "val_auc": [0.7, float("nan")],
                              "learning_rate": [1e-3, 5e-5], "member": 1}),
        figures={},
        parameters={"task.uncertain": "unknown", "splitting.train": 0.75, "training.monitor": "val_auc",
                    "training.learning_rate": 0.001, "training.patience": None, "training.tolerance": 0.01,
                    "training.loss": "cross_entropy", "training.fine_tuning.epochs": 12,
                    "splitting.ignore_given_split": False, "splitting.renew": False, "augmentation.rotation": 7,
                    "augmentation.views": 5, "model.weights": "imagenet"},
        versions={"git commit": "7d2e", "python": "3.11.7"},
        model={"name": "densenet121", "weights": "imagenet", "n_parameters": 7168833, "size": 224, "epochs": [1],
               "phase": "frozen"},
    )  # fmt: skip


DRIFT_LIMITS = parameters_of()["drift"]["limits"] | {"prevalence": {"warn": 0.2, "refuse": None}}


def _observed(n, seed, k, *, brighter=0.0, flipped=False, labels=True):
    rng = np.random.default_rng(seed)
    statistics = rng.normal(100, 10, (n, 11)).astype(np.float32)
    statistics[:, 0] += brighter
    probability = rng.random((n, k))
    true = (rng.random((n, k)) < probability).astype(float)
    true = np.full((n, k), np.nan) if not labels else 1 - true if flipped else true
    return ImageFeatures(statistics, rng.normal(size=(n, 4)).astype(np.float32), probability, true, np.full(n, ""))


@pytest.fixture(scope="session")
def drift_report():
    """Compare 80 new images, with some differences, with the reference images of a model."""

    def make(n=80, *, outputs=("ill",), **differences):
        k = len(outputs)
        profile = ReferenceProfile.fit(_observed(120, 0, k), _observed(80, 1, k), outputs=outputs, seed=0)
        new = _observed(n, 2, k, **differences)
        return {
            **{"task": "effusion", "title": "Pleural effusion", "phantom": False},
            **detect_drift(profile, new, alpha=0.01, min_images=30, limits=DRIFT_LIMITS, seed=0),
            "model": {"name": "cxr-chest", "version": 3, "uri": "models:/cxr-chest/3", "run_id": "r", "digest": "d"},
            "new_images": {"place": "/new", "images": 90, "left_out": 0, "without_patient": 0, "drawn": 80,
                           "looked_at": 80, "refused": {}},
            "reference": {"training_images": 120, "validation_images": 80},
        }  # fmt: skip

    return make
