import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.checkpoints import Row
from cxr_pipeline.training.epoch_selection import MONITORS
from cxr_pipeline.training.epochs import Trainer
from cxr_pipeline.training.fitting import fit, predict
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings
from cxr_pipeline.training.validation_metrics import validation_metrics

SIZE = 32
SETTINGS = TrainingSettings(
    loss="weighted_cross_entropy",
    optimizer="adamw",
    learning_rate=3e-3,
    schedule="cosine",
    weight_decay=1e-3,
    head_weight_decay=1e-3,
    epochs=3,
    batch_size=16,
    monitor="val_auc",
    tolerance=0.0,
    patience=None,
    mixed_bfloat16=False,
    seed=0,
    fine_tuning=FineTuningSettings(cut="block3_pool", epochs=3, learning_rate=1e-3, batch_size=16),
)
AUGMENTATION: dict[str, Any] = {
    "rotation": 5.0,
    "translation": 0.05,
    "zoom": 0.0,
    "brightness": 0.1,
    "contrast": 0.0,
    "noise": 0.01,
    "flip": False,
    "views": 2,
    "seed": 0,
}
HEAD_ONLY: dict[str, Any] = {
    "pretrained": True,
    "epochs": 1,
    "fine_tuning": replace(SETTINGS.fine_tuning, epochs=0),
}
BOTH = pytest.mark.parametrize("pretrained", [False, True], ids=["from scratch", "pretrained"])

Fitted = dict[bool, tuple[keras.Model, pd.DataFrame]]


class MemoryImages:
    """Images of a task that can be learnt: for each label an image is brighter at another height, sometimes barely.

    Args:
        y: labels [n, k]; the last one is at the bottom.
    """

    digest = "memory"

    def __init__(self, y: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        self.y = y
        images = rng.integers(60, 120, (len(y), SIZE, SIZE))
        for place, positive in enumerate(y.T[::-1] == 1):
            bottom = SIZE - 11 * place
            images[positive, bottom - 10 : bottom] += rng.integers(10, 90, (positive.sum(), 1, 1))
        self.by_content = {hashlib.sha256(image.tobytes()).hexdigest(): image for image in images.astype(np.uint8)}
        self.sha256 = np.array(list(self.by_content))
        self.largest_read = 0

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        self.largest_read = max(self.largest_read, len(sha256s))
        return np.stack([self.by_content[sha256] for sha256 in sha256s])


@pytest.fixture(scope="module")
def images() -> MemoryImages:
    return MemoryImages(np.arange(72)[:, np.newaxis] % 2)


def several(*, exclusive: bool) -> MemoryImages:
    """Images with three labels; where these do not exclude each other, a fifth of them is unknown."""
    if exclusive:
        return MemoryImages(np.eye(3, dtype=np.float32)[np.arange(96) % 3])
    rng = np.random.default_rng(1)
    images = MemoryImages(rng.integers(0, 2, (96, 3)).astype(np.float32))
    images.y[rng.random(images.y.shape) < 0.2] = np.nan
    images.y[0] = np.nan
    return images


def build(*, pretrained: bool, seed: int = 0, n_outputs: int = 1, exclusive: bool = False) -> keras.Model:
    """A small network; as a pretrained one, with everything below the head frozen."""
    model = build_model(
        name="small_cnn",
        weights_file=None,
        size=SIZE,
        n_outputs=n_outputs,
        exclusive=exclusive,
        head_units=8,
        dropout=0.3,
        seed=seed,
    )
    if pretrained:
        for layer in model.layers[: model.layers.index(model.get_layer("pooled"))]:
            layer.trainable = False
    return model


def sets(images: MemoryImages, train: dict[str, Any], validation: dict[str, Any]) -> dict[str, ImageSet]:
    first = ImageSet.unweighted(images=images, sha256=images.sha256[:48], y=images.y[:48])
    rest = ImageSet.unweighted(images=images, sha256=images.sha256[48:], y=images.y[48:])
    return {"train": replace(first, **train), "validation": replace(rest, **validation)}


def run(
    images: MemoryImages,
    folder: Path,
    *,
    pretrained: bool = False,
    on_epoch: Callable[[Row], None] = lambda row: None,
    model: keras.Model | None = None,
    model_seed: int = 0,
    exclusive: bool = False,
    train: dict[str, Any] | None = None,
    validation: dict[str, Any] | None = None,
    **changes: Any,
) -> tuple[keras.Model, pd.DataFrame]:
    return fit(
        model=model or build(pretrained=pretrained, seed=model_seed, n_outputs=images.y.shape[1], exclusive=exclusive),
        **sets(images, train or {}, validation or {}),
        settings=replace(SETTINGS, **changes),
        exclusive=exclusive,
        augmentation=AUGMENTATION,
        features=folder / "features",
        checkpoints=folder / "checkpoints",
        on_epoch=on_epoch,
    )


def assert_same(first: tuple[keras.Model, pd.DataFrame], second: tuple[keras.Model, pd.DataFrame]) -> None:
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    pd.testing.assert_frame_equal(first[1].drop(columns="seconds"), second[1].drop(columns="seconds"), check_exact=True)


@pytest.fixture(scope="module")
def fitted(images: MemoryImages, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """One undisturbed training of each kind."""
    return {
        pretrained: run(images, tmp_path_factory.mktemp("fitted"), pretrained=pretrained)
        for pretrained in (False, True)
    }


def test_a_network_learns_from_scratch(images: MemoryImages, tmp_path: Path) -> None:
    model, history = run(images, tmp_path, epochs=8)
    scores = predict(model, images, images.sha256[48:], 16)[:, 0]
    y = images.y[48:, 0]
    assert history["val_auc"].max() > 0.95
    assert (scores[y == 1][:, np.newaxis] > scores[y == 0]).mean() == pytest.approx(history["val_auc"].max(), abs=1e-6)


def test_the_history_runs_on_over_the_phases(fitted: Fitted) -> None:
    assert list(fitted[False][1]["phase"]) == ["training"] * 3
    history = fitted[True][1]
    assert list(history["phase"]) == ["frozen"] * 3 + ["fine_tuning"] * 3
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert list(history.columns) == [
        *("phase", "epoch", "loss", "val_loss", "val_auc", "val_average_precision"),
        *("val_accuracy", "val_recall", "val_specificity", "learning_rate", "seconds"),
    ]
    assert not history.isna().any().any()


def test_fine_tuning_starts_at_its_own_rate(fitted: Fitted) -> None:
    rates = fitted[True][1]["learning_rate"].to_numpy()
    falling = [0.75, 0.25, 0.0]
    np.testing.assert_allclose(
        rates, [*(3e-3 * part for part in falling), *(1e-3 * part for part in falling)], atol=1e-9
    )


@BOTH
def test_the_weights_are_those_of_the_best_epoch(images: MemoryImages, fitted: Fitted, pretrained: bool) -> None:
    model, history = fitted[pretrained]
    best = history.sort_values(["val_auc", "val_loss"], ascending=[False, True]).iloc[0]
    scores = predict(model, images, images.sha256[48:], 16)[:, 0]
    called, y = scores >= 0.5, images.y[48:, 0] == 1
    assert (called == y).mean() == pytest.approx(best["val_accuracy"])
    assert (scores[y][:, np.newaxis] > scores[~y]).mean() == pytest.approx(best["val_auc"], abs=0.01)


def only_frozen(**changes: Any) -> dict[str, Any]:
    return {"pretrained": True, "fine_tuning": replace(SETTINGS.fine_tuning, epochs=0), "epochs": 6, **changes}


def never(*arguments: Any, **named: Any) -> None:
    raise AssertionError("an epoch was trained")


def seconds(fitted: tuple[keras.Model, pd.DataFrame]) -> dict[tuple[int, str], float]:
    """Duration of each epoch, which tells whether two trainings are one."""
    history = fitted[1]
    return dict(zip(history["epoch"], history["seconds"], strict=True))


@BOTH
def test_a_finished_training_is_read_from_disk_with_its_complete_history(
    images: MemoryImages, tmp_path: Path, fitted: Fitted, monkeypatch: pytest.MonkeyPatch, pretrained: bool
) -> None:
    first = run(images, tmp_path, pretrained=pretrained)
    monkeypatch.setattr(Trainer, "_run_epoch", never)
    received: list[Row] = []
    again = run(images, tmp_path, pretrained=pretrained, on_epoch=received.append)
    assert_same(again, fitted[pretrained])
    pd.testing.assert_frame_equal(again[1], first[1])
    assert received == first[1].to_dict("records")


@pytest.mark.parametrize("patience", [None, 1], ids=["all epochs", "early stopping"])
def test_another_metric_finds_the_training_done(images: MemoryImages, tmp_path: Path, patience: int | None) -> None:
    """Where it would have trained longer it continues, so that each metric gives what it gives alone."""
    settings = {**HEAD_ONLY, "epochs": 6, "patience": patience, "learning_rate": 3e-2}
    alone = {monitor: run(images, tmp_path / monitor, monitor=monitor, **settings) for monitor in MONITORS}
    assert len({model_value(model, "hidden/bias").tobytes() for model, _ in alone.values()}) > 1
    together = {monitor: run(images, tmp_path, monitor=monitor, **settings) for monitor in [*MONITORS, *MONITORS]}
    for monitor in MONITORS:
        assert_same(together[monitor], alone[monitor])
    longest = seconds(max(together.values(), key=lambda fitted: len(fitted[1])))
    assert all(seconds(fitted).items() <= longest.items() for fitted in together.values())
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_metrics_share_the_first_phase_and_the_second_if_it_starts_from_the_same_epoch(
    images: MemoryImages, tmp_path: Path
) -> None:
    settings = {"pretrained": True, "patience": 1, "learning_rate": 3e-2}
    alone = {monitor: run(images, tmp_path / monitor, monitor=monitor, **settings) for monitor in MONITORS}
    together = {monitor: run(images, tmp_path, monitor=monitor, **settings) for monitor in [*MONITORS, *MONITORS]}
    for monitor in MONITORS:
        assert_same(together[monitor], alone[monitor])
    assert 2 < len(list((tmp_path / "checkpoints").iterdir())) < 1 + len(MONITORS)


@pytest.mark.parametrize(("pretrained", "kills"), [(False, [2]), (True, [1, 3, 5])], ids=["from scratch", "pretrained"])
def test_a_killed_training_ends_as_if_it_had_not_been(
    images: MemoryImages, fitted: Fitted, tmp_path: Path, pretrained: bool, kills: list[int]
) -> None:
    trained: list[Row] = []
    for killed_after in kills:

        def kill(row: Row, last: int = killed_after) -> None:
            if row["epoch"] == last:
                trained.append(row)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path, pretrained=pretrained, on_epoch=kill)
    heard: list[Row] = []
    resumed = run(images, tmp_path, pretrained=pretrained, on_epoch=heard.append)
    assert_same(resumed, fitted[pretrained])
    pd.testing.assert_frame_equal(pd.DataFrame(heard), resumed[1])
    seconds = resumed[1].set_index("epoch")["seconds"]
    assert [row["seconds"] for row in trained] == [seconds[row["epoch"]] for row in trained], "an epoch ran twice"


def test_the_same_seed_gives_the_same_model(images: MemoryImages, fitted: Fitted, tmp_path: Path) -> None:
    keras.utils.set_random_seed(12345)
    assert_same(run(images, tmp_path), fitted[False])


def test_another_seed_gives_another_model(images: MemoryImages, fitted: Fitted, tmp_path: Path) -> None:
    kernels = [model_value(run(images, tmp_path, **HEAD_ONLY, seed=seed)[0], "hidden/kernel") for seed in (0, 1)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    "other",
    [{"weight_decay": 0.5}, {"train": {"weight": np.full(48, 2.0)}}, {"model_seed": 7}],
    ids=["settings", "images", "model"],
)
def test_another_training_does_not_take_over_the_checkpoint(
    images: MemoryImages, tmp_path: Path, other: dict[str, Any]
) -> None:
    def kill(row: Row) -> None:
        raise KeyboardInterrupt

    for changes in ({}, other):
        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path, **HEAD_ONLY, **changes, on_epoch=kill)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_frozen_layers_stay_and_fine_tuning_trains_above_the_cut(images: MemoryImages, fitted: Fitted) -> None:
    start, (model, history) = build(pretrained=True), fitted[True]
    assert history["val_auc"].idxmax() >= 3, "the best epoch is one of fine-tuning"
    changed = {
        variable.path
        for variable, before in zip(model.weights, start.weights, strict=False)
        if not np.array_equal(model_value(model, variable.path), model_value(start, variable.path))
    }
    assert changed == {
        *("block4_conv1/kernel", "block5_conv1/kernel"),
        *("hidden/kernel", "hidden/bias", "probability/kernel", "probability/bias"),
    }


def model_value(model: keras.Model, path: str) -> np.ndarray:
    return next(np.asarray(variable) for variable in model.weights if variable.path == path)


def test_without_fine_tuning_only_the_head_is_trained(images: MemoryImages, tmp_path: Path) -> None:
    model, history = run(images, tmp_path, **HEAD_ONLY)
    assert list(history["phase"]) == ["frozen"]
    start = build(pretrained=True)
    for path, same in (("block5_conv1/kernel", True), ("hidden/kernel", False)):
        assert np.array_equal(model_value(model, path), model_value(start, path)) is same


@pytest.mark.parametrize("left_out", ["count", "weight"])
def test_images_of_count_or_weight_zero_teach_nothing(images: MemoryImages, tmp_path: Path, left_out: str) -> None:
    wrong = np.arange(48) < 10
    right = images.y[:48]
    results = [
        run(images, tmp_path / name, **HEAD_ONLY, loss="cross_entropy", train={"y": y, left_out: np.where(wrong, 0, 1)})
        for name, y in (("right", right), ("wrong", np.where(wrong[:, np.newaxis], 1 - right, right)))
    ]
    assert_same(*results)


def test_training_stops_when_patience_is_out(images: MemoryImages, tmp_path: Path) -> None:
    _, history = run(images, tmp_path, **HEAD_ONLY | {"epochs": 40, "learning_rate": 1.0, "patience": 2})
    best = history.sort_values(["val_auc", "val_loss"], ascending=[False, True]).index[0]
    assert len(history) == best + 3 < 40


def test_bfloat16_leaves_a_float32_model(images: MemoryImages, tmp_path: Path) -> None:
    model, history = run(images, tmp_path, pretrained=True, epochs=1, mixed_bfloat16=True)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    assert predict(model, images, images.sha256[:3], 2).dtype == np.float32
    assert history["val_auc"].notna().all()


def test_a_training_that_diverges_says_so(images: MemoryImages, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"diverged in epoch \d+ \(training\): the loss is .* Lower the learning rate"):
        run(images, tmp_path, learning_rate=1e30, optimizer="sgd", schedule="constant")


@pytest.mark.parametrize(
    ("cut", "message"),
    [("block4_pol", "Try block4_pool"), ("probability", "expected a layer of the backbone")],
)
def test_a_cut_that_is_no_layer_is_refused(images: MemoryImages, tmp_path: Path, cut: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"training\.fine_tuning\.cut: .*{message}"):
        run(images, tmp_path, pretrained=True, fine_tuning=replace(SETTINGS.fine_tuning, cut=cut))


def test_a_cut_beside_other_paths_is_refused(images: MemoryImages, tmp_path: Path) -> None:
    image = keras.Input((SIZE, SIZE, 1), name="image")
    left, right = (keras.layers.Conv2D(2, 3, name=name, trainable=False)(image) for name in ("left", "right"))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooled")(keras.layers.Add(name="sum")([left, right]))
    model = keras.Model(image, keras.layers.Dense(1, activation="sigmoid", name="probability")(pooled))
    with pytest.raises(UserError, match="left is inside a block"):
        run(images, tmp_path, model=model, fine_tuning=replace(SETTINGS.fine_tuning, cut="left"))


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_predictions_come_in_order_whatever_the_batch(images: MemoryImages, fitted: Fitted, batch_size: int) -> None:
    model = fitted[False][0]
    chosen = images.sha256[[5, 2, 9, 5, 70, 33, 1]]
    expected = model(images.read(chosen.tolist())[..., np.newaxis].astype(np.float32))
    images.largest_read = 0
    found = predict(model, images, chosen.tolist(), batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert images.largest_read <= batch_size


def test_no_images_have_no_predictions(fitted: Fitted, images: MemoryImages) -> None:
    assert predict(fitted[False][0], images, [], 8).shape == (0, 1)


def kill_after(epoch: int) -> Callable[[Row], None]:
    def kill(row: Row) -> None:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return kill


@pytest.mark.parametrize(("exclusive", "pretrained"), [(True, False), (False, True)], ids=["multiclass", "multilabel"])
def test_several_outputs_are_learnt_and_a_kill_changes_nothing(
    tmp_path: Path, exclusive: bool, pretrained: bool
) -> None:
    images = several(exclusive=exclusive)
    asked: dict[str, Any] = {"pretrained": pretrained, "exclusive": exclusive, "epochs": 4 if pretrained else 6}
    undisturbed = run(images, tmp_path / "undisturbed", **asked)
    with pytest.raises(KeyboardInterrupt):
        run(images, tmp_path / "killed", **asked, on_epoch=kill_after(5))
    assert_same(run(images, tmp_path / "killed", **asked), undisturbed)

    model, history = undisturbed
    assert history["val_auc"].max() > 0.85
    assert not history.isna().any().any()
    y_score = predict(model, images, images.sha256[48:], 16)
    assert y_score.shape == (48, 3)
    assert y_score.dtype == np.float32
    best = history.sort_values(["val_auc", "epoch"], ascending=False).iloc[0]
    found = validation_metrics(images.y[48:], y_score, exclusive=exclusive)
    assert {name: best[name] for name in found} == pytest.approx(found, abs=0.02)


@pytest.mark.parametrize("loss", ["cross_entropy", "weighted_cross_entropy", "focal"])
def test_what_is_unknown_teaches_nothing(images: MemoryImages, tmp_path: Path, loss: str) -> None:
    """A label that no image has leaves the training of the others as it is, whatever the loss."""
    unknown = np.full((48, 1), np.nan)
    model, history = run(
        images,
        tmp_path,
        **HEAD_ONLY,
        loss=loss,
        model=build(pretrained=True, n_outputs=2),
        train={"y": np.hstack([images.y[:48], unknown])},
        validation={"y": np.hstack([images.y[48:], unknown[:24]])},
    )
    start = build(pretrained=True, n_outputs=2)
    kernels = [model_value(network, "probability/kernel") for network in (model, start)]
    moved = np.abs(kernels[0] - kernels[1]).max(axis=0)
    assert moved[0] > 0
    assert moved[1] < 1e-4, "only weight decay moves it"
    assert np.isfinite(history[["loss", "val_loss", "val_auc"]].to_numpy(float)).all()


def test_labels_of_another_network_are_refused(images: MemoryImages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected labels of 3 outputs"):
        run(images, tmp_path, model=build(pretrained=False, n_outputs=3))
