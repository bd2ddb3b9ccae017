"""The sentences of a model card say what was done, for each configuration in which one of them would be false."""

from dataclasses import replace

import pandas as pd
import pytest

from cxr_pipeline.report.pages.report import render_card

EPOCHS = {"epoch": [1, 2], "val_auc": [0.7, 0.8], "member": 1}
FROM_SCRATCH = {"history": pd.DataFrame({"phase": "training", **EPOCHS}), "model": {"phase": "training", "epochs": [2]}}
HEAD_ONLY = {"history": pd.DataFrame({"phase": "frozen", **EPOCHS})}
FINE_TUNED = {"model": {"phase": "fine_tuning", "epochs": [2]}}
UNDEFINED = {"history": pd.DataFrame({"phase": "frozen", **EPOCHS, "val_auc": float("nan")})}
ENSEMBLE = {
    "history": pd.DataFrame({"phase": "frozen", "epoch": [1, 2, 1], "val_auc": 0.7, "member": [1, 1, 2]}),
    "model": {"epochs": [2, 1]},
}
BALANCED = "To balance the classes, "
NO_BALANCE = "Classes were not balanced in training."
SHOWN, LEFT_OUT = "shown more than once in an epoch", "750 images of the training split were left out"
WEIGHTED, LOSS = "images were weighted by class", "the loss was weighted by class"


def plan(count, weight=1.0):
    sha256 = [str(place) for place in range(len(count))]
    return {"sampling_plan": pd.DataFrame({"sha256": sha256, "count": count, "weight": weight})}


def rule(policy, *, method="platt", n_positive=57):
    fitted_on = {"split": "validation", "n_images": 118, "n_positive": n_positive}
    return {"decision_rule": {"policy": {"rule": policy}, "calibration": {"method": method}, "fitted_on": fitted_on}}


def parameters(**values):
    return {"parameters": {name.replace("__", "."): value for name, value in values.items()}}


def changed(content, done):
    """Lay changes over the documents of a report, or replace its tables."""
    documents = {
        name: {**getattr(content, name), **change} for name, change in done.items() if isinstance(change, dict)
    }
    return replace(content, **{**done, **documents})


@pytest.mark.parametrize(
    ("done", "said", "unsaid"),
    [
        ({}, ["initialised with ImageNet weights and trained in its head only", "Epoch 1 of 2"], ["scratch"]),
        (FROM_SCRATCH, ["trained from scratch, to distinguish", "Epoch 2 of 2"], ["ImageNet", "imagenet", "fine-tun"]),
        (HEAD_ONLY, ["trained in its head only"], ["fine-tuned"]),
        (FINE_TUNED, ["ImageNet weights and fine-tuned in its last layers, to", "fine_tuning.epochs"], ["only, to"]),
        ({"model": {"weights": "/folder/chest.h5"}}, ["with the weights in chest.h5"], ["ImageNet", "/folder"]),
        ({}, ["a single network, not an ensemble", "118 others were used"], ["Each score is", "averaged"]),
        (ENSEMBLE, ["was trained for all 2 epochs: no image chose an epoch", "ensemble of 2 networks"], ["single"]),
        (ENSEMBLE, ["divided into 2 folds", "by the network that was not trained on it. 119 others"], ["118 others"]),
        (ENSEMBLE, ["For the choice of the calibration and the threshold, each of them was scored"], ["of the epoch"]),
        ({"metrics": {"views": 4}}, ["mean over 4 views of an image, the image itself and 3 slightly changed"], []),
        (UNDEFINED, ["validation AUC is undefined, so that the last of 2 epochs"], ["of the best"]),
        (plan([1] * 1554), ["trained on 1,554 images.", NO_BALANCE], [BALANCED]),
        (plan([0] * 750 + [1] * 804), ["trained on 804 images.", BALANCED + LEFT_OUT], [SHOWN, NO_BALANCE]),
        (plan([1] * 800 + [3] * 754), ["trained on 1,554 images.", SHOWN], [WEIGHTED, NO_BALANCE]),
        (plan([1] * 1554, [0.5] * 777 + [1.5] * 777), [BALANCED + WEIGHTED], [SHOWN, NO_BALANCE]),
        (parameters(training__loss="weighted_cross_entropy"), [BALANCED + LOSS], [WEIGHTED, NO_BALANCE]),
        (rule("youden"), ["the epoch, the calibration and the threshold, and", "Thresholds were fitted on"], []),
        (rule("fixed"), ["choose the epoch and the calibration, and"], ["Thresholds were fitted"]),
        (rule("fixed", method="none"), ["choose the epoch, and", "are not calibrated"], ["Thresholds were fitted"]),
        (rule("argmax", method="none"), ["choose the epoch, and", "no fitted threshold"], ["Thresholds were fitted"]),
        (rule("youden", n_positive=0), ["calibration, and", "No threshold was fitted"], ["Thresholds were fitted"]),
        (rule("youden", n_positive=118), ["calibration, and", "No threshold was fitted"], ["Thresholds were fitted"]),
        ({"task": {"kind": "binary"}}, ["class depends on a label that is unknown or that a source"], ["imputed"]),
        ({"task": {"kind": "multilabel"}}, ["Labels that are unknown or that a source marks as uncertain are"], []),
        (parameters(task__uncertain="positive"), ["as uncertain count as positive", "that is unknown are left"], []),
        (parameters(splitting__ignore_given_split=True), ["within each source. Patients keep"], ["unless a source"]),
        (parameters(splitting__renew=True), ["This run assigned all images again"], ["Patients keep their split"]),
        ({}, ["within each source, unless a source defines the split. Patients keep their split"], ["synthetic"]),
        (parameters(sources__images__layout="phantoms"), ["“images”. They are synthetic. They are from"], ["Those"]),
    ],
)  # fmt: skip
def test_a_card_says_what_was_done(content, done, said, unsaid):
    card = render_card(changed(content, done))
    for sentence in said:
        assert sentence in card
    for sentence in unsaid:
        assert sentence not in card
