from dataclasses import replace

import pytest

from cxr_pipeline.report.sections import data

NAMES = ["normal", "Mass", "Nodule"]
TRAINED, TUNED, EXTERNAL, UNTESTED = (
    dict(zip(("train", "validation", "test"), images, strict=True))
    for images in ((90, 10, 20), (0, 10, 20), (0, 0, 20), (90, 10, 0))
)
ALSO_TRAINED = "the source “a”, which it was also trained on."


@pytest.mark.parametrize(
    ("kind", "weights", "phrase"),
    [
        ("binary", "none", "7,168,833 parameters, trained from scratch, to distinguish images labelled Nodule from"),
        ("multiclass", "imagenet", "initialised with ImageNet weights, to assign an image to one of 3 classes: normal"),
        ("multilabel", "/home/x/chest.h5", "with the weights in chest.h5, to predict which of 3 labels, any"),
    ],
)
def test_the_model_is_described_without_its_paths(content, kind, weights, phrase):
    task = {**content.task, "kind": kind, "classes": NAMES}
    sentence = data.model(replace(content, task=task, model={**content.model, "weights": weights})).blocks[0]
    assert phrase in sentence
    assert "/home" not in sentence


def test_images_and_patients_are_counted(content, data_report):
    def sentence(**changed):
        return data.data(replace(content, **changed)).blocks[0]

    assert "trained on 1,554 images. 118 others" in sentence()
    assert "the epoch and the threshold, and 119 to test it" in sentence()
    assert "from the source “images”. They are from 640 patients" in sentence()
    several = {"Mass": 5, "Nodule": 7, "images": 12, "patients": None}
    split = {"train": several, "validation": several, "test": {**several, "images": 9}}
    task = {**content.task, "kind": "multilabel", "classes": NAMES[1:]}
    assert "trained on 12 images. 12 others were used to choose the epoch and the decision rule, and 9 to test" in (
        sentence(task=task, split_counts=split)
    )
    assert sentence(data_report=data_report(n_unknown=791, n_patients=0)).endswith("Their patients are unknown.")
    partly = data_report(n_unknown=1200, sources={"a": True, "b": False}) | {"phantom": True}
    assert "“b” (synthetic). The patient is known for all but 1,200 of them. The others are from 640" in (
        sentence(data_report=partly)
    )


@pytest.mark.parametrize(
    ("sources", "tested", "external"),
    [
        ({"a": TRAINED, "b": UNTESTED}, ALSO_TRAINED, "It was not tested on"),
        ({"a": TUNED}, ALSO_TRAINED, "It was not tested on"),
        ({"a": UNTESTED, "b": EXTERNAL}, "from the source “b”, which it was not trained on.",
         "It was tested on images from the source “b”, which it was not trained on."),
        ({"a": TRAINED, "b": EXTERNAL, "c": TRAINED, "d": EXTERNAL},
         "the sources “a” and “c”, which it was also trained on and from the sources “b” and “d”, which it was not",
         "It was tested on images from the sources “b” and “d”, which it was not trained on."),
    ],
)  # fmt: skip
def test_sources_are_named_by_whether_the_model_was_trained_on_them(content, sources, tested, external):
    content = replace(content, source_counts=sources)
    scope = " ".join(data.use(content).blocks[2])
    for phrase in (tested, "not a medical device", "any decision about a patient"):
        assert phrase in scope
    assert data.limitations(content).blocks[0][0].startswith(external)


@pytest.mark.parametrize("policy", ["unknown", "positive", "negative"])
def test_uncertain_labels_are_treated_as_configured(policy):
    expected = "marks as uncertain, are ignored" if policy == "unknown" else f"marks as uncertain count as {policy}"
    assert expected in data.uncertain_labels(policy)
