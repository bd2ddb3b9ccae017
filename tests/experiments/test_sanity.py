import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_pipeline.experiments import sanity
from cxr_pipeline.experiments.sanity import Subject, check_chance, check_overfitting, check_shuffled_labels
from cxr_pipeline.training.epoch_selection import EpochSelector
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.heads import OUTPUT, POOLED
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

SIZE = 32
KINDS = ("binary", "multiclass", "multilabel")
EACH = pytest.mark.parametrize(
    ("kind", "pretrained"),
    [("binary", False), ("multiclass", False), ("multilabel", False), ("multiclass", True)],
    ids=["binary", "multiclass", "multilabel", "pretrained"],
)
SETTINGS = TrainingSettings(
    loss="weighted_cross_entropy",
    optimizer="adamw",
    learning_rate=5e-3,
    schedule="cosine",
    weight_decay=1.0,
    head_weight_decay=1.0,
    epochs=2,
    batch_size=16,
    monitor="val_auc",
    tolerance=0.01,
    patience=1,
    mixed_bfloat16=False,
    seed=0,
    fine_tuning=FineTuningSettings(cut="block3_pool", epochs=3, learning_rate=5e-3, batch_size=16),
)


class NoiseImages:
    """Images that are noise, so that their labels can only be learnt by heart; a name may be the copy of another."""

    digest = "noise"

    def __init__(self, n: int) -> None:
        drawn = np.random.default_rng(0).integers(0, 255, (n, SIZE // 4, SIZE // 4), dtype=np.uint8)
        self.images = drawn.repeat(4, axis=1).repeat(4, axis=2)

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        return self.images[[int(name.split("copy")[0], 16) for name in sha256s]]


def labels_of(kind: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    if kind == "binary":
        return (np.arange(n)[:, np.newaxis] % 4 == 0).astype(np.float32)
    if kind == "multiclass":
        return np.eye(3, dtype=np.float32)[np.minimum(np.arange(n) % 5, 2)]
    y = (rng.random((n, 3)) < 0.3).astype(np.float32)
    y[rng.random(y.shape) < 0.1] = np.nan
    return y


def image_set(images: NoiseImages, places: np.ndarray, y: np.ndarray, suffix: str = "") -> ImageSet:
    names = np.array([f"{place:04x}{suffix}" for place in places])
    return ImageSet.unweighted(images=images, sha256=names, y=y[places])


def subject(folder: Path, kind: str = "binary", *, pretrained: bool = False, bias: float = 0.0) -> Subject:
    """Eighty training images and sixty others, and a small network, perhaps with everything below its head frozen."""
    images, y = NoiseImages(140), labels_of(kind, 140)

    def build() -> keras.Model:
        model = build_model(
            name="small_cnn",
            weights_file=None,
            size=SIZE,
            n_outputs=y.shape[1],
            exclusive=kind == "multiclass",
            head_units=0,
            dropout=0.0,
            seed=0,
        )
        for layer in model.layers[: model.layers.index(model.get_layer(POOLED))] if pretrained else ():
            layer.trainable = False
        model.get_layer(OUTPUT).bias.assign([bias, *[0.0] * (y.shape[1] - 1)])
        return model

    return Subject(
        build=build,
        train=image_set(images, np.arange(80), y),
        validation=image_set(images, np.arange(80, 140), y),
        settings=SETTINGS,
        exclusive=kind == "multiclass",
        folder=folder / "features",
        checkpoints=folder / "checkpoints",
    )


def chance(asked: Subject, **changes: float) -> sanity.Verdict:
    return check_chance(asked, **{"n_images": 40, "max_ratio": 2.0, "seed": 0, **changes})


def overfitting(asked: Subject, **changes: float) -> sanity.Verdict:
    settings = {"n_images": 20, "epochs": 60, "max_loss": 0.1, "min_auc": 0.999, "seed": 0}
    return check_overfitting(asked, **{**settings, **changes})


def shuffled(asked: Subject, **changes: float) -> sanity.Verdict:
    settings = {"epochs": 10, "false_alarms": 0.01, "permutations": 2000, "seed": 0}
    return check_shuffled_labels(asked, **{**settings, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_network_has_the_loss_of_chance(tmp_path: Path, kind: str) -> None:
    verdict = chance(subject(tmp_path, kind))
    expected = np.log(3 if kind == "multiclass" else 2)
    assert verdict.passed
    assert verdict.expected["loss"] == pytest.approx(expected, rel=1e-4)
    assert verdict.expected["at_least"] == pytest.approx(expected / 2, rel=1e-4)
    assert verdict.expected["at_most"] == pytest.approx(expected * 2, rel=1e-4)
    assert 0.95 * expected < verdict.measured["loss"] < 1.5 * expected
    assert f"{verdict.measured['loss']:.3f}" in verdict.sentence


@pytest.mark.parametrize(("kind", "bias"), [("binary", 4.0), ("binary", -4.0), ("multiclass", 6.0)])
def test_outputs_that_start_with_a_bias_are_found(tmp_path: Path, kind: str, bias: float) -> None:
    verdict = chance(subject(tmp_path, kind, bias=bias))
    assert not verdict.passed
    assert verdict.measured["loss"] > verdict.expected["at_most"]


def test_a_loss_below_chance_is_found(tmp_path: Path) -> None:
    class Given(keras.layers.Layer):
        """Turns the mean grey of an image into its label: nothing is left to learn."""

    asked = subject(tmp_path)
    asked.train.images.images[:] = np.where(labels_of("binary", 140)[:, :, np.newaxis] == 1, 255, 0)

    def build() -> keras.Model:
        image = keras.Input((SIZE, SIZE, 1), name="image")
        mean = keras.layers.GlobalAveragePooling2D(name=POOLED)(image)
        signed = keras.layers.Rescaling(20 / 255, offset=-10)(mean)
        output = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="ones", name=OUTPUT)(signed)
        return keras.Model(image, output, name="small_cnn")

    verdict = chance(replace(asked, build=build))
    assert not verdict.passed
    assert verdict.measured["loss"] < verdict.expected["at_least"]


def test_luck_of_one_draw_of_the_output_weights_does_not_count(tmp_path: Path) -> None:
    asked = subject(tmp_path)
    first = chance(asked).measured["loss"]
    assert chance(asked).measured["loss"] == first
    others = [chance(asked, seed=1000 * seed).measured["loss"] for seed in range(1, 4)]
    assert len({first, *others}) == 4
    assert max(abs(loss - first) for loss in others) < 0.05


@EACH
def test_a_few_images_are_learnt_by_heart(tmp_path: Path, kind: str, pretrained: bool) -> None:
    verdict = overfitting(subject(tmp_path, kind, pretrained=pretrained))
    assert verdict.passed, verdict.sentence
    assert verdict.measured["images"] == 20
    assert verdict.measured["loss"] <= 0.1
    assert verdict.measured["auc"] >= 0.999
    assert len(verdict.epochs) == verdict.measured["epochs"] < 60
    assert all(row["loss"] > 0.1 or row["auc"] < 0.999 for row in verdict.epochs[:-1])
    assert not list(tmp_path.rglob("*.npz"))


def pretend(monkeypatch: pytest.MonkeyPatch, *rows: tuple[float, float]) -> list[dict[str, Any]]:
    """Have `fit` do nothing but tell of epochs with these losses and AUCs; return what it was called with."""
    calls: list[dict[str, Any]] = []

    def fit(**arguments: Any) -> tuple[keras.Model, None]:
        calls.append(arguments)
        for loss, auc in rows:
            arguments["on_epoch"]({"loss": loss, "val_loss": loss, "val_auc": auc})
        return arguments["model"], None

    monkeypatch.setattr(sanity, "fit", fit)
    return calls


@pytest.mark.parametrize(
    ("rows", "passed"),
    [
        ([(0.5, 0.9), (0.1, 0.999), (0.0, 1.0)], True),
        ([(0.5, 0.9), (0.2, 1.0), (0.05, 0.99)], False),
        ([(0.1, 0.998)], False),
        ([(0.11, 1.0)], False),
        ([(float("nan"), 1.0)], False),
    ],
)
def test_loss_and_auc_must_both_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[tuple[float, float]], passed: bool
) -> None:
    pretend(monkeypatch, *rows)
    verdict = overfitting(subject(tmp_path))
    assert verdict.passed == passed
    assert verdict.measured["epochs"] == len(verdict.epochs) == (2 if passed else len(rows))


@pytest.mark.parametrize(
    ("pretrained", "fine_tuned", "planned"), [(False, 3, (60, 0)), (True, 3, (3, 60)), (True, 0, (60, 0))]
)
def test_the_last_phase_gets_the_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretrained: bool, fine_tuned: int, planned: tuple[int, int]
) -> None:
    """The top of a pretrained network learns too, unless the task leaves it as it is."""
    calls = pretend(monkeypatch, (0.0, 1.0))
    asked = subject(tmp_path, pretrained=pretrained)
    tuning = replace(SETTINGS.fine_tuning, epochs=fine_tuned)
    overfitting(replace(asked, settings=replace(SETTINGS, fine_tuning=tuning)))
    settings = calls[0]["settings"]
    assert (settings.epochs, settings.fine_tuning.epochs) == planned
    assert (settings.weight_decay, settings.head_weight_decay, settings.schedule) == (0, 0, "constant")
    assert (settings.patience, settings.learning_rate) == (None, SETTINGS.learning_rate)
    assert not any(calls[0]["augmentation"].values())
    assert calls[0]["train"] is calls[0]["validation"]
    assert not calls[0]["checkpoints"].exists()


def test_a_network_that_cannot_learn_is_found(tmp_path: Path) -> None:
    asked = subject(tmp_path)
    verdict = overfitting(replace(asked, settings=replace(SETTINGS, learning_rate=1e-9)), epochs=3)
    assert not verdict.passed
    assert len(verdict.epochs) == 3
    assert verdict.measured["loss"] > 0.1


@pytest.mark.parametrize(("kind", "pretrained"), [("multilabel", False), ("binary", True)])
def test_shuffled_labels_cannot_be_predicted(tmp_path: Path, kind: str, pretrained: bool) -> None:
    verdict = shuffled(subject(tmp_path, kind, pretrained=pretrained))
    assert verdict.passed, verdict.sentence
    assert verdict.measured["images"] == 60
    assert [verdict.measured["epochs"], len(verdict.epochs)] == [10, 10]
    assert 0.05 < 0.5 - verdict.expected["at_least"] < 0.3
    assert verdict.expected["at_most"] - 0.5 == pytest.approx(0.5 - verdict.expected["at_least"])
    assert verdict.measured["auc"] == pytest.approx(verdict.epochs[-1]["auc"], abs=0.01)
    assert len({row["auc"] for row in verdict.epochs}) > 1


def test_shuffled_labels_are_learnt_without_what_hinders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = pretend(monkeypatch, (0.5, 0.9), (0.4, 0.6))
    asked = subject(tmp_path)
    verdict = shuffled(asked)
    settings = calls[0]["settings"]
    assert (settings.epochs, settings.fine_tuning.epochs) == (10, 0)
    assert (settings.weight_decay, settings.head_weight_decay, settings.patience) == (0, 0, None)
    assert EpochSelector(settings.monitor, settings.tolerance, None).select([{"val_auc": 1.0}, {"val_auc": 0.0}]) == 1
    assert not any(calls[0]["augmentation"].values())
    assert calls[0]["checkpoints"] == asked.checkpoints
    assert verdict.measured["training_loss"] == 0.4
    assert verdict.epochs == ({"loss": 0.5, "auc": 0.9}, {"loss": 0.4, "auc": 0.6})


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
def test_validation_images_among_those_of_training_are_found(tmp_path: Path, kind: str) -> None:
    """The copies have names of their own: only what is in an image tells that it is the same."""
    asked = subject(tmp_path, kind)
    both = image_set(asked.train.images, np.arange(140), labels_of(kind, 140), suffix="copy")
    verdict = shuffled(replace(asked, train=both), epochs=20)
    assert not verdict.passed
    assert verdict.measured["auc"] > 0.9
    assert verdict.measured["training_loss"] < verdict.epochs[0]["loss"]


def test_every_verdict_can_be_written_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, (0.7, float("nan")))
    asked = subject(tmp_path)
    one_class = replace(asked.validation, y=np.zeros_like(asked.validation.y))
    blind = replace(asked, train=replace(asked.train, y=np.zeros_like(asked.train.y)), validation=one_class)
    verdict = shuffled(blind, epochs=1)
    assert not verdict.passed
    document = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert document["measured"]["auc"] is None
    assert document["expected"]["at_most"] is None
    assert document["epochs"][0]["auc"] is None
    assert list(sanity.CHECKS) == ["chance", "overfitting", "shuffled_labels"]
