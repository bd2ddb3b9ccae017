from importlib import metadata

import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments import digests
from cxr_pipeline.experiments.digests import result_digest, shared_digests

PARAMETERS = parameters_of(env="demo")
VGG16 = {"name": "vgg16", "weights": "imagenet", "pooling": "multilevel"}
FINE_TUNED = lay_over(PARAMETERS, {"model": VGG16, "training": {"fine_tuning": {"cut": None, "epochs": 4}}})
HEAD = lay_over(FINE_TUNED, {"training": {"fine_tuning": {"epochs": 0}}})


def test_a_result_digest_depends_on_parameters_and_data():
    digest = result_digest(PARAMETERS, data="x")
    assert digest == result_digest(dict(reversed(PARAMETERS.items())), data="x")
    blocks = [block for block in PARAMETERS if block not in digests.WITHOUT_EFFECT]
    others = [
        result_digest(PARAMETERS, data="y"),
        result_digest(PARAMETERS, data="x", splits="z"),
        *(result_digest(lay_over(PARAMETERS, {block: {"new": 1}}), data="x") for block in blocks),
    ]
    assert len({digest, *others}) == 1 + len(others)
    without_effect = {"ablation": {"cells": {"more": {}}}, "task": {"title": "Another"}, "resolution": {"workers": 3}}
    assert result_digest(lay_over(PARAMETERS, without_effect), data="x") == digest


@pytest.mark.parametrize(
    "version",
    [
        "cxr_pipeline.__version__",
        "cxr_pipeline.data.images.recipe.VERSION",
        "cxr_pipeline.training.settings.FITTING",
        "cxr_pipeline.training.settings.FEATURES",
        "keras",
        "tensorflow",
    ],
)
def test_digests_depend_on_versions_of_code_and_libraries(monkeypatch, version):
    before = result_digest(PARAMETERS), *shared_digests(PARAMETERS)
    if version.startswith("cxr_pipeline"):
        monkeypatch.setattr(version, 99)
    else:
        versions = {version: "99"}
        monkeypatch.setattr(
            "cxr_pipeline.training.settings.version", lambda name: versions.get(name) or metadata.version(name)
        )
    assert not {result_digest(PARAMETERS), *shared_digests(PARAMETERS)} & set(before)


MONITOR = {"training": {"monitor": "val_recall"}}
DECISION = {"thresholds": {"calibration": "none"}, "evaluation": {"replicates": 9}, "task": {"title": "Another"}}


@pytest.mark.parametrize(
    ("parameters", "changes", "training", "features"),
    [
        (HEAD, DECISION, True, True),
        (FINE_TUNED, MONITOR, True, True),
        (HEAD, {"resampling": {"plan": "none"}}, False, True),
        (HEAD, {"model": {"head_units": 64, "dropout": 0.5}, "training": {"loss": "focal"}}, False, True),
        (HEAD, {"training": {"fine_tuning": {"epochs": 4}}}, False, True),
        (HEAD, {"augmentation": {"views": 0}}, False, False),
        (HEAD, {"resolution": {"size": 96}}, False, False),
        (HEAD, {"model": {"pooling": "average"}}, False, False),
        (lay_over(HEAD, {"augmentation": {"views": 0}}), {"augmentation": {"rotation": 1}}, False, True),
    ],
)
def test_which_runs_share_a_training_or_features(parameters, changes, training, features):
    one, other = shared_digests(parameters), shared_digests(lay_over(parameters, changes))
    assert [a == b for a, b in zip(one, other, strict=True)] == [training, features]


@pytest.mark.parametrize("model", [{"name": "small_cnn"}, {"weights": "none"}])
def test_without_a_frozen_backbone_only_a_training_is_shared(model):
    parameters = lay_over(FINE_TUNED, {"model": model})
    (training,) = shared_digests(parameters)
    assert shared_digests(lay_over(parameters, MONITOR)) == (training,)


def test_image_digests_ignore_deleted_images_row_order_and_optionally_a_split():
    report = {"data_digest": "d", "n_images": 3}
    splits = pd.DataFrame({"sha256": ["a", "b", "c", "deleted"], "split": ["train", "validation", "test", "train"]})
    digest = digests.image_digests(report, splits)
    assert digest == digests.image_digests(report, splits.head(3))
    assert digests.table_digest(splits) == digests.table_digest(splits.iloc[[3, 2, 0, 1]])
    assert digest != digests.image_digests(report, splits.replace("validation", "train"))
    assert digest != digests.image_digests({**report, "data_digest": "e"}, splits)
    assert digests.image_digests(report, splits, without_split="test")["splits"] == digests.table_digest(splits.head(2))
