import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr_pipeline.data.confounding import CONFOUNDED_AUC, source_baseline


def images(counts, classes=("no", "yes")):
    """Return a manifest and splits with the given number of images of each class, by split and source."""
    rows = [
        (split, source, name)
        for split, sources in counts.items()
        for source, sizes in sources.items()
        for name, size in zip(classes, sizes, strict=True)
        for _ in range(size)
    ]
    table = pd.DataFrame(rows, columns=["split", "source", "class"])
    table["image"] = [f"{number}.png" for number in range(len(table))]
    labels = {f"label_{name}": (table["class"] == name).astype("float64") for name in classes}
    return table[["source", "image"]].assign(**labels), table[["source", "image", "split"]]


def baseline_of(counts):
    return source_baseline(*images(counts), outputs=["yes"])


def test_a_source_for_each_class_is_confounded():
    counts = {"train": {"adults": (50, 0), "children": (0, 40)}, "test": {"adults": (10, 0), "children": (0, 5)}}
    baseline = baseline_of(counts)
    measures = {"auc": 1.0, "per_class": {"yes": {"auc": 1.0}}, "accuracy": 1.0}
    measures |= {"majority_accuracy": pytest.approx(10 / 15), "confounded": True, "threshold": CONFOUNDED_AUC}
    n_images = {"no": {"adults": 60, "children": 0}, "yes": {"adults": 0, "children": 45}}
    assert baseline == measures | {"n_images": n_images}
    assert json.loads(json.dumps(baseline, allow_nan=False)) == baseline


def test_scores_are_from_training_images():
    train, validation = {"a": (9, 1), "b": (5, 5)}, {"a": (0, 90), "b": (90, 0)}
    baseline = baseline_of({"train": train, "validation": validation, "test": {"a": (3, 4), "b": (2, 6)}})
    truth = np.repeat([0, 1, 0, 1], [3, 4, 2, 6])
    assert baseline["auc"] == pytest.approx(roc_auc_score(truth, np.repeat([0.1, 0.5], [7, 8])))
    assert baseline["majority_accuracy"] == pytest.approx(5 / 15)


def test_one_of_three_confounded_classes_is_enough_and_the_auc_is_their_mean():
    counts = {split: {"a": (100, 100, 2), "b": (100, 100, 40)} for split in ("train", "test")}
    baseline = source_baseline(*images(counts, ("x", "y", "z")), outputs=["x", "y", "z"])
    each = [baseline["per_class"][name]["auc"] for name in "xyz"]
    assert baseline["auc"] == pytest.approx(np.mean(each))
    assert each[0] < CONFOUNDED_AUC <= each[2]
    assert baseline["confounded"] is True


def test_several_classes_have_no_accuracy_and_unknown_labels_do_not_count():
    manifest, splits = images({split: {"a": (8, 2), "b": (2, 8)} for split in ("train", "test")}, ("x", "y"))
    manifest["label_z"] = np.nan
    baseline = source_baseline(manifest.assign(label_x=1 - manifest["label_y"]), splits, outputs=["x", "y", "z"])
    assert baseline["accuracy"] is baseline["majority_accuracy"] is None
    assert baseline["per_class"]["z"] == {"auc": None}
    assert baseline["auc"] == pytest.approx(0.8)
    assert baseline["n_images"]["z"] == {"a": 0, "b": 0}
    manifest.loc[(splits["split"] == "test") & (manifest["source"] == "b"), "label_y"] = np.nan
    assert source_baseline(manifest, splits, outputs=["y"])["auc"] == pytest.approx(0.5)


def test_unknown_training_labels_are_not_negative():
    manifest, splits = images({"train": {"a": (5, 5), "b": (6, 4)}, "test": {"a": (1, 2), "b": (2, 1)}}, ("x", "y"))
    unlabelled = (splits["split"] == "train") & (manifest["source"] == "a") & (manifest["label_y"] == 0)
    manifest.loc[unlabelled, "label_y"] = np.nan
    assert source_baseline(manifest, splits, outputs=["y"])["auc"] == pytest.approx(2 / 3)


def test_scores_of_small_and_unseen_sources_tend_to_the_overall_score():
    unseen = {"train": {"a": (7, 3), "b": (3, 7)}, "test": {"a": (1, 0), "b": (0, 1), "new": (2, 1)}}
    expected = roc_auc_score([0, 1, 0, 0, 1], [0.3, 0.7, 0.5, 0.5, 0.5])
    assert baseline_of(unseen)["auc"] == pytest.approx(expected)
    train = {"large": (1, 90), "small": (0, 1), "b": (90, 1)}
    assert baseline_of({"train": train, "test": {"large": (0, 1), "small": (1, 0)}})["auc"] == 1.0


def test_one_source_and_test_images_of_one_class_or_none():
    assert baseline_of({"train": {"a": (3, 3)}, "test": {"a": (2, 2)}}) is None
    train = {"a": (3, 3), "b": (3, 3)}
    baseline = baseline_of({"train": train, "test": {"a": (2, 0), "b": (1, 0)}})
    assert baseline["auc"] is None
    assert baseline["confounded"] is False
    assert baseline_of({"train": train})["accuracy"] is None
