from dataclasses import replace

import pytest

from cxr_pipeline.report.sections import data

TRAINED, TUNED, EXTERNAL, UNTESTED = (
    dict(zip(("train", "validation", "test"), images, strict=True))
    for images in ((90, 10, 20), (0, 10, 20), (0, 0, 20), (90, 10, 0))
)
ALSO_TRAINED = "the source “a”, also used for training or validation."
NOT_EXTERNAL = "No source was used for testing only"


def test_images_and_patients_are_counted(content, data_report):
    def sentence(**changed):
        return data.data(replace(content, **changed)).blocks[0]

    assert "trained on 1,554 images. 118 others" in sentence()
    assert "the epoch, the calibration and the threshold, and 119 to test it" in sentence()
    assert "from the source “images”. They are from 640 patients" in sentence()
    several = {"Mass": 5, "Nodule": 7, "images": 12, "patients": None}
    split = {"train": several, "validation": several, "test": {**several, "images": 9}}
    few = content.sampling_plan.head(12)
    assert "trained on 12 images. 12 others were used" in sentence(split_counts=split, sampling_plan=few)
    assert "and 9 to test" in sentence(split_counts=split)
    assert sentence(data_report=data_report(n_unknown=791, n_patients=0)).endswith("Their patients are unknown.")
    partly = data_report(n_unknown=1200, sources={"a": True, "b": False})
    assert "“b”. The patient is known for all but 1,200 of them. The others are from 640" in (
        sentence(data_report=partly)
    )
    drawn = content.parameters | {"sources.b.layout": "phantoms"}
    assert "“b”. Those from the source “b” are synthetic. The patient" in sentence(data_report=partly, parameters=drawn)


@pytest.mark.parametrize(
    ("sources", "tested", "external"),
    [
        ({"a": TRAINED, "b": UNTESTED}, ALSO_TRAINED, NOT_EXTERNAL),
        ({"a": TUNED}, ALSO_TRAINED, NOT_EXTERNAL),
        ({"a": UNTESTED, "b": EXTERNAL}, "from the source “b”, used for testing only.",
         "It was tested on images from the source “b”, used for testing only."),
        ({"a": TRAINED, "b": EXTERNAL, "c": TRAINED, "d": EXTERNAL},
         "the sources “a” and “c”, also used for training or validation and from the sources “b” and “d”, used for",
         "It was tested on images from the sources “b” and “d”, used for testing only."),
    ],
)  # fmt: skip
def test_sources_are_named_by_whether_the_model_was_trained_on_them(content, sources, tested, external):
    content = replace(content, source_counts=sources)
    scope = " ".join(data.use(content).blocks[2])
    for phrase in (tested, "not a medical device", "any decision about a patient"):
        assert phrase in scope
    assert data.limitations(content).blocks[0][0].startswith(external)
