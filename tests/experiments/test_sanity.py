import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from shipped import parameters_of

from cxr_pipeline.experiments import sanity
from cxr_pipeline.experiments.sanity import Subject, balanced_subset, shuffle_labels
from cxr_pipeline.framework.config import Training
from cxr_pipeline.training.epoch_selection import EpochSelector
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import OUTPUT, POOLED, build_model

SIZE = 16
REGULARISED = {"schedule": "cosine", "weight_decay": 1.0, "head_weight_decay": 1.0, "patience": 1}
FAST = {"learning_rate": 5e-3, "batch_size": 16, "epochs": 2}
FINE_TUNING = {"cut": "block3_pool", "learning_rate": 5e-3, "batch_size": 16, "epochs": 3}
SETTINGS = Training(
    **{**parameters_of()["training"], **REGULARISED, **FAST, "fine_tuning": FINE_TUNING, "mixed_bfloat16": False}
)


class NoiseImages:
    """Images of noise whose labels can only be memorised; names ending in "copy" have the same pixels."""

    digest = "noise"

    def __init__(self, n):
        pixels = np.random.default_rng(0).integers(0, 255, (n, SIZE // 4, SIZE // 4), dtype=np.uint8)
        self.pixels = pixels.repeat(4, axis=1).repeat(4, axis=2)

    def read(self, sha256s):
        return self.pixels[[int(name.split("copy")[0], 16) for name in sha256s]]


def labels_of(kind, n):
    """Return binary labels [n, 1], or labels [n, 3] of a multilabel task of which some are unknown."""
    if kind == "binary":
        return (np.arange(n)[:, np.newaxis] % 4 == 0).astype(np.float32)
    rng = np.random.default_rng(1)
    y = (rng.random((n, 3)) < 0.3).astype(np.float32)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y


def image_set(images, rows, y, suffix=""):
    names = np.array([f"{row:04x}{suffix}" for row in rows])
    return ImageSet.unweighted(images=images, sha256=names, y=y[rows])


def make_subject(folder, kind="binary", *, pretrained=False, bias=0.0):
    """80 training images, 60 validation images and a small network, frozen below its head if pretrained."""
    images, y = NoiseImages(140), labels_of(kind, 140)

    def build():
        model = build_model(name="small_cnn", size=SIZE, n_outputs=y.shape[1])
        for layer in model.layers[: model.layers.index(model.get_layer(POOLED))] if pretrained else ():
            layer.trainable = False
        model.get_layer(OUTPUT).bias.assign([bias, *[0.0] * (y.shape[1] - 1)])
        return model

    return Subject(
        build=build,
        train=image_set(images, np.arange(80), y),
        validation=image_set(images, np.arange(80, 140), y),
        settings=SETTINGS,
        exclusive=False,
        features=folder / "features",
        checkpoints=folder / "checkpoints",
    )


def chance(subject, **changes):
    return sanity.check_chance(subject, **{"n_images": 40, "max_ratio": 2.0, "seed": 0, **changes})


def overfitting(subject, **changes):
    settings = {"n_images": 20, "epochs": 60, "max_loss": 0.1, "min_auc": 0.999, "seed": 0}
    return sanity.check_overfitting(subject, **{**settings, **changes})


def shuffled(subject, **changes):
    settings = {"epochs": 10, "false_alarms": 0.01, "permutations": 2000, "seed": 0}
    return sanity.check_shuffled_labels(subject, **{**settings, **changes})


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_an_untrained_network_has_the_loss_of_chance_unless_its_bias_is_wrong(tmp_path, kind):
    result, loss = chance(make_subject(tmp_path, kind)), np.log(2)
    assert result["passed"]
    assert result["expected"] == pytest.approx({"loss": loss, "at_least": loss / 2, "at_most": loss * 2}, rel=1e-4)
    measured = result["measured"]["loss"]
    assert 0.95 * loss < measured < 1.5 * loss
    assert f"{measured:.3f}" in result["sentence"]
    biased = chance(make_subject(tmp_path, kind, bias=-4.0 if kind == "binary" else 12.0))
    assert not biased["passed"]
    assert biased["measured"]["loss"] > biased["expected"]["at_most"]


def test_a_loss_below_chance_fails(tmp_path):
    subject = make_subject(tmp_path)
    subject.train.images.pixels[:] = np.where(labels_of("binary", 140)[:, :, np.newaxis] == 1, 255, 0)

    def build():
        """Build a network that predicts the label from the mean pixel without any training."""
        image = keras.Input((SIZE, SIZE, 1), name="image")
        mean = keras.layers.GlobalAveragePooling2D(name=POOLED)(image)
        signed = keras.layers.Rescaling(20 / 255, offset=-10)(mean)
        output = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="ones", name=OUTPUT)(signed)
        return keras.Model(image, output, name="small_cnn")

    result = chance(replace(subject, build=build))
    assert not result["passed"]
    assert result["measured"]["loss"] < result["expected"]["at_least"]


@pytest.mark.parametrize(("kind", "pretrained"), [("multilabel", False), ("binary", True)])
def test_a_few_images_are_memorised(tmp_path, kind, pretrained):
    result = overfitting(make_subject(tmp_path, kind, pretrained=pretrained))
    assert result["passed"], result["sentence"]
    assert result["measured"]["images"] == 20
    assert result["measured"]["loss"] <= 0.1
    assert result["measured"]["auc"] >= 0.999
    assert len(result["epochs"]) == result["measured"]["epochs"] < 60
    assert all(row["loss"] > 0.1 or row["auc"] < 0.999 for row in result["epochs"][:-1])
    assert not list(tmp_path.rglob("*.npz"))


def fake_fit(monkeypatch, *rows):
    """Replace `fit` by a function that reports the given losses and AUCs; return the arguments of its calls."""
    calls = []

    def fit(**arguments):
        calls.append(arguments)
        for loss, auc in rows:
            arguments["on_epoch"]({"loss": loss, "val_loss": loss, "val_auc": auc})
        return arguments["model"], None

    monkeypatch.setattr(sanity, "fit", fit)
    return calls


@pytest.mark.parametrize(
    ("rows", "n_epochs"),
    [([(0.5, 0.9), (0.1, 0.999), (0.0, 1.0)], 2), ([(0.2, 1.0), (0.05, 0.99)], None), ([(float("nan"), 1.0)], None)],
)
def test_both_loss_and_auc_must_be_reached(tmp_path, monkeypatch, rows, n_epochs):
    fake_fit(monkeypatch, *rows)
    result = overfitting(make_subject(tmp_path))
    assert result["passed"] == (n_epochs is not None)
    assert result["measured"]["epochs"] == len(result["epochs"]) == (n_epochs or len(rows))


@pytest.mark.parametrize(
    ("pretrained", "fine_tuned", "epochs"), [(False, 3, (60, 0)), (True, 3, (3, 60)), (True, 0, (60, 0))]
)
def test_networks_memorise_in_the_last_phase_without_regularisation(
    tmp_path, monkeypatch, pretrained, fine_tuned, epochs
):
    calls = fake_fit(monkeypatch, (0.0, 1.0))
    subject = make_subject(tmp_path, pretrained=pretrained)
    fine_tuning = replace(SETTINGS.fine_tuning, epochs=fine_tuned)
    overfitting(replace(subject, settings=replace(SETTINGS, fine_tuning=fine_tuning)))
    assert calls[0]["train"] is calls[0]["validation"]
    assert not calls[0]["checkpoints"].exists()
    shuffled(subject)
    assert calls[1]["checkpoints"] == subject.checkpoints
    assert (calls[1]["settings"].epochs, calls[1]["settings"].fine_tuning.epochs) == (10, 0) or pretrained
    for call in calls:
        settings = call["settings"]
        assert (settings.weight_decay, settings.head_weight_decay, settings.schedule) == (0, 0, "constant")
        assert (settings.patience, settings.learning_rate) == (None, SETTINGS.learning_rate)
        assert not any(call["augmentation"].values())
        selector = EpochSelector(settings.monitor, settings.tolerance, None)
        assert selector.select([{"val_auc": 1.0}, {"val_auc": 0.0}]) == 1, "the last epoch counts"
    settings = calls[0]["settings"]
    assert (settings.epochs, settings.fine_tuning.epochs) == epochs


def test_copies_of_validation_images_among_the_training_images_fail(tmp_path):
    subject = make_subject(tmp_path)
    both = image_set(subject.train.images, np.arange(140), labels_of("binary", 140), suffix="copy")
    result = shuffled(replace(subject, train=both), epochs=20)
    assert not result["passed"]
    assert result["measured"]["auc"] > 0.9
    assert result["measured"]["training_loss"] < result["epochs"][0]["loss"]


def test_undefined_values_are_null_in_json(tmp_path, monkeypatch):
    fake_fit(monkeypatch, (0.7, float("nan")))
    subject = make_subject(tmp_path)
    validation = replace(subject.validation, y=np.zeros_like(subject.validation.y))
    train = replace(subject.train, y=np.zeros_like(subject.train.y))
    result = shuffled(replace(subject, train=train, validation=validation), epochs=1)
    assert not result["passed"]
    document = json.loads(json.dumps(result, allow_nan=False))
    assert document["measured"]["auc"] is None
    assert document["expected"]["at_most"] is None
    assert document["epochs"][0]["auc"] is None


def test_labels_are_shuffled_between_images_over_both_sets_but_not_between_copies(tmp_path):
    subject = make_subject(tmp_path, "multilabel")
    first, rest = subject.train, subject.validation
    train, validation, contents = shuffle_labels(first, rest, seed=0)
    before, after = np.concatenate([first.y, rest.y]), np.concatenate([train.y, validation.y])
    assert sorted(map(str, before)) == sorted(map(str, after))
    assert (before[:80] != after[:80]).any(axis=1).mean() > 0.3
    assert (np.nansum(rest.y, axis=0) != np.nansum(validation.y, axis=0)).any()
    assert len(set(contents)) == len(contents) == 60
    np.testing.assert_array_equal(train.sha256, first.sha256)
    np.testing.assert_array_equal(shuffle_labels(first, rest, seed=0)[0].y, train.y)
    other = shuffle_labels(first, rest, seed=1)[0]
    assert (np.nan_to_num(other.y, nan=2) != np.nan_to_num(train.y, nan=2)).any()
    copies = image_set(first.images, np.arange(40), labels_of("multilabel", 140), suffix="copy")
    train, validation, contents = shuffle_labels(first, copies, seed=0)
    np.testing.assert_array_equal(validation.y, train.y[:40])
    assert len(set(contents)) == 40


def all_images(y):
    return image_set(NoiseImages(len(y)), np.arange(len(y)), y)


def test_a_subset_is_balanced_over_the_classes_and_images_without_a_class():
    y = np.tile(np.array([1, 0, 0], np.float32), (140, 1))
    y[7], y[50:60] = [0, 1, 0], [0, 0, 1]
    chosen = balanced_subset(all_images(y), 15, seed=0)
    assert chosen.y.sum(axis=0).tolist() == [7, 1, 7]
    assert len(set(chosen.sha256)) == 15
    assert list(balanced_subset(all_images(y), 15, seed=1).sha256) != list(chosen.sha256)
    assert balanced_subset(all_images(y), 2, seed=0).y.sum(axis=0).tolist() == [1, 1, 1]
    np.testing.assert_array_equal(y[[int(name, 16) for name in chosen.sha256]], chosen.y)
    assert balanced_subset(all_images(labels_of("binary", 140)), 20, seed=0).y.sum() == 10
    y = np.zeros((140, 2), np.float32)
    y[:3], y[3:5], y[5:100] = [1, 0], [1, 1], np.nan
    several = balanced_subset(all_images(y), 200, seed=0)
    assert len(several.y) == 45
    assert not np.isnan(several.y).any()
