import hashlib
from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.config import Training
from cxr_pipeline.training.epoch_selection import validation_metrics
from cxr_pipeline.training.fitting import Trainer, computing_in_bfloat16, fit, predict
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.weights import FROZEN, SMALLEST_SIZES

SIZE = 32
FINE_TUNING = {"cut": "block3_pool", "epochs": 3, "learning_rate": 1e-3, "batch_size": 16}
CHANGES = {"epochs": 3, "learning_rate": 3e-3, "batch_size": 16, "head_weight_decay": 1e-3, "tolerance": 0.0}
SETTINGS = Training(
    **{**parameters_of()["training"], **CHANGES, "patience": None, "seed": 0, "folds": 1, "fine_tuning": FINE_TUNING}
)
AUGMENTATION = {
    **{"rotation": 5.0, "translation": 0.05, "zoom": 0.0, "brightness": 0.1, "contrast": 0.0, "noise": 0.01},
    **{"flip": False, "seed": 0},
}
HEAD_ONLY = {"pretrained": True, "epochs": 1, "fine_tuning": replace(SETTINGS.fine_tuning, epochs=0)}


class MemoryImages:
    """Learnable images: each label brightens a band at a different height, sometimes barely; the last at the bottom."""

    digest = "memory"

    def __init__(self, y, size=SIZE):
        rng = np.random.default_rng(0)
        self.y = y
        images = rng.integers(60, 120, (len(y), size, size))
        for label, positive in enumerate(y.T[::-1] == 1):
            bottom = size - 11 * label
            images[positive, bottom - 10 : bottom] += rng.integers(10, 90, (positive.sum(), 1, 1))
        self.by_content = {hashlib.sha256(image.tobytes()).hexdigest(): image for image in images.astype(np.uint8)}
        self.sha256 = np.array(list(self.by_content))
        self.largest_read = 0

    def read(self, sha256s):
        self.largest_read = max(self.largest_read, len(sha256s))
        return np.stack([self.by_content[sha256] for sha256 in sha256s])


@pytest.fixture(scope="module")
def images():
    return MemoryImages(np.arange(72)[:, np.newaxis] % 2)


def build(*, pretrained, seed=0, n_outputs=1, exclusive=False):
    """Build a small network; if pretrained, all layers below the head are frozen."""
    options = {"n_outputs": n_outputs, "exclusive": exclusive, "head_units": 8, "dropout": 0.3, "seed": seed}
    model = build_model(name="small_cnn", size=SIZE, **options)
    if pretrained:
        for layer in model.layers[: model.layers.index(model.get_layer("pooled"))]:
            layer.trainable = False
    return model


def run(
    images, folder, *, model=None, pretrained=False, exclusive=False, train=None, views=0, on_epoch=None, **changes
):
    """Train on the first 48 images and validate on the others, or on all if there are no more."""
    rows = np.arange(len(images.y))
    first, rest = (
        ImageSet.unweighted(images=images, sha256=images.sha256[part], y=images.y[part])
        for part in (rows[:48], rows[48:] if len(rows) > 48 else rows)
    )
    return fit(
        model=model or build(pretrained=pretrained, n_outputs=images.y.shape[1], exclusive=exclusive),
        train=replace(first, **train or {}),
        validation=rest,
        settings=replace(SETTINGS, **changes),
        exclusive=exclusive,
        augmentation={**AUGMENTATION, "views": views},
        features=folder / "features",
        checkpoints=folder / "checkpoints",
        on_epoch=on_epoch or (lambda row: None),
    )


def checkpoints(folder):
    return list((folder / "checkpoints").iterdir())


def value(model, path):
    return next(np.asarray(variable) for variable in model.weights if variable.path == path)


def assert_same(first, second):
    for a, b in zip(first[0].get_weights(), second[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    pd.testing.assert_frame_equal(first[1].drop(columns="seconds"), second[1].drop(columns="seconds"), check_exact=True)


@pytest.fixture(scope="module")
def fitted(images, tmp_path_factory):
    """One uninterrupted training run of each kind."""
    folder = tmp_path_factory.mktemp("fitted")
    return {pretrained: run(images, folder, pretrained=pretrained, views=2) for pretrained in (False, True)}


def test_the_history_covers_all_phases(fitted):
    assert list(fitted[False][1]["phase"]) == ["training"] * 3
    history = fitted[True][1]
    assert list(history["phase"]) == ["frozen"] * 3 + ["fine_tuning"] * 3
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6]
    assert list(history.columns) == [
        *("phase", "epoch", "loss", "val_loss", "val_auc", "val_average_precision"),
        *("val_accuracy", "val_recall", "val_specificity", "learning_rate", "seconds"),
    ]
    assert not history.isna().any().any()
    falling = np.array([0.75, 0.25, 0.0])
    np.testing.assert_allclose(history["learning_rate"], [*(3e-3 * falling), *(1e-3 * falling)], atol=1e-9)


def test_a_finished_training_is_read_from_disk_with_its_complete_history(images, tmp_path, monkeypatch):
    first = run(images, tmp_path, pretrained=True)
    monkeypatch.setattr(Trainer, "_run_epoch", lambda *arguments: pytest.fail("an epoch was trained"))
    received = []
    again = run(images, tmp_path, pretrained=True, on_epoch=received.append)
    assert_same(again, first)
    assert received == first[1].to_dict("records")


@pytest.mark.parametrize("fine_tuned", [False, True])
def test_monitors_share_a_training_without_changing_its_result(images, tmp_path, fine_tuned):
    """Training continues if early stopping allows more epochs; equal selections share the second phase."""
    settings = {**HEAD_ONLY, "epochs": 5, "patience": 1, "learning_rate": 3e-2}
    settings["fine_tuning"] = replace(SETTINGS.fine_tuning, epochs=2 if fine_tuned else 0)
    monitors = ("val_auc", "val_loss")
    alone = {monitor: run(images, tmp_path / monitor, monitor=monitor, **settings) for monitor in monitors}
    assert len({value(model, "hidden/bias").tobytes() for model, _ in alone.values()}) > 1
    together = {monitor: run(images, tmp_path, monitor=monitor, **settings) for monitor in [*monitors, monitors[0]]}
    for monitor in monitors:
        assert_same(together[monitor], alone[monitor])
    # Equal durations show that the first phase was trained once.
    durations = [history.loc[history["phase"] == "frozen", "seconds"].tolist() for _, history in together.values()]
    assert all(duration == max(durations, key=len)[: len(duration)] for duration in durations)
    assert 1 + fine_tuned <= len(checkpoints(tmp_path)) <= 1 + fine_tuned * len(monitors)


@pytest.mark.parametrize(("pretrained", "kills"), [(False, [2]), (True, [1, 3, 5])], ids=["from scratch", "pretrained"])
def test_an_interrupted_training_ends_with_the_same_result(images, fitted, tmp_path, pretrained, kills):
    interrupted = []
    for epoch in kills:
        rows = []

        def interrupt(row, rows=rows, epoch=epoch):
            rows.append(row)
            if row["epoch"] == epoch:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(images, tmp_path, pretrained=pretrained, views=2, on_epoch=interrupt)
        interrupted = rows
    received = []
    resumed = run(images, tmp_path, pretrained=pretrained, views=2, on_epoch=received.append)
    assert_same(resumed, fitted[pretrained])
    pd.testing.assert_frame_equal(pd.DataFrame(received), resumed[1])
    assert received[: len(interrupted)] == interrupted, "an epoch was trained twice"


def test_the_same_seed_gives_the_same_model(images, fitted, tmp_path):
    keras.utils.set_random_seed(12345)
    assert_same(run(images, tmp_path, views=2), fitted[False])
    kernels = [value(run(images, tmp_path, **HEAD_ONLY, seed=seed)[0], "hidden/kernel") for seed in (0, 1)]
    assert not np.array_equal(*kernels)


def test_another_training_has_its_own_checkpoint(images, tmp_path):
    weights, model = {"weight": np.full(48, 2.0)}, build(pretrained=True, seed=7)
    for changes in ({}, {"weight_decay": 0.5}, {"train": weights}, {"model": model}):
        run(images, tmp_path, **HEAD_ONLY, **changes)
    assert len(checkpoints(tmp_path)) == 4


@pytest.mark.parametrize("zero", ["count", "weight"])
def test_images_of_count_or_weight_zero_are_not_learned(images, tmp_path, zero):
    wrong, right = np.arange(48) < 10, images.y[:48]
    results = [
        run(images, tmp_path / name, **HEAD_ONLY, loss="cross_entropy", train={"y": y, zero: np.where(wrong, 0, 1)})
        for name, y in (("right", right), ("wrong", np.where(wrong[:, np.newaxis], 1 - right, right)))
    ]
    assert_same(*results)


def test_training_stops_after_patience(images, tmp_path):
    _, history = run(images, tmp_path, **HEAD_ONLY | {"epochs": 40, "learning_rate": 1.0, "patience": 2})
    best = history.sort_values(["val_auc", "epoch"], ascending=False).index[0]
    assert len(history) == best + 3 < 40


def test_a_network_computes_in_bfloat16_inside_the_context_only(images):
    model = build(pretrained=False)
    network, image = keras.Sequential([model]), images.read(images.sha256[:2].tolist())[..., np.newaxis]
    before = np.asarray(network(image))
    with computing_in_bfloat16(network, enabled=True):
        inside = network(image)
        assert model.get_layer("block1_conv1").compute_dtype == "bfloat16"
        assert model.get_layer("block1_conv1").kernel.dtype == "float32"
        assert model.get_layer("image_standardisation").compute_dtype == "float32"
        assert keras.backend.standardize_dtype(inside.dtype) == "float32"
        assert not np.array_equal(inside, before)
        np.testing.assert_allclose(inside, before, atol=0.05)
    np.testing.assert_array_equal(network(image), before)


def test_a_diverging_training_is_reported(images, tmp_path):
    with pytest.raises(UserError, match=r"diverged in epoch \d+ \(training\): the loss is .* Lower the learning rate"):
        run(images, tmp_path, learning_rate=1e30, optimizer="sgd", schedule="constant")


def test_predictions_are_read_batch_by_batch(images, fitted):
    model, batch_size = fitted[False][0], 5
    chosen = images.sha256[[5, 2, 9, 5, 70, 33, 1]]
    expected = model(images.read(chosen.tolist())[..., np.newaxis].astype(np.float32))
    images.largest_read = 0
    predictions = predict(model, images, chosen.tolist(), batch_size)
    assert predictions.dtype == np.float32
    np.testing.assert_allclose(predictions, expected, rtol=1e-4)
    assert images.largest_read <= batch_size
    assert predict(model, images, [], batch_size).shape == (0, 1)


@pytest.mark.parametrize(("exclusive", "pretrained"), [(True, False), (False, True)], ids=["multiclass", "multilabel"])
def test_several_outputs_are_learned(tmp_path, exclusive, pretrained):
    rng = np.random.default_rng(1)
    y = np.eye(3, dtype=np.float32)[np.arange(96) % 3] if exclusive else rng.integers(0, 2, (96, 3)).astype(np.float32)
    images = MemoryImages(y)
    if not exclusive:
        images.y[rng.random(images.y.shape) < 0.2] = np.nan
        images.y[0] = np.nan
    settings = {"pretrained": pretrained, "exclusive": exclusive, "epochs": 4 if pretrained else 6}
    model, history = run(images, tmp_path, views=2, **settings)
    assert history["val_auc"].max() > 0.85
    assert not history.isna().any().any()
    best = history.sort_values(["val_auc", "epoch"], ascending=False).iloc[0]
    metrics = validation_metrics(images.y[48:], predict(model, images, images.sha256[48:], 16), exclusive=exclusive)
    assert {name: best[name] for name in metrics} == pytest.approx(metrics, abs=0.02)


def pretrained(name):
    """Build a backbone with batch statistics of noise, so that an update of them can be detected."""
    size = SMALLEST_SIZES[name]
    model = build_model(name=name, size=size, n_outputs=3, dropout=0.1)
    backbone = model.layers[: model.layers.index(model.get_layer("pooled"))]
    for layer in backbone:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1
    model(np.random.default_rng(1).integers(0, 256, (8, size, size, 1)).astype(np.float32), training=True)
    for layer in backbone:
        layer.trainable = False
    return model


# Two of the cuts are later than the default, to save time.
CUTS = {"densenet121": "pool4_pool", "efficientnetv2b0": "block6e_add"}


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        pytest.param(name, CUTS.get(name), marks=[pytest.mark.slow] if name != "mobilenetv2" else [])
        for name in BACKBONES
        if name not in FROZEN
    ],
)
def test_a_backbone_is_trained_only_above_its_cut(name, cut, tmp_path):
    model = pretrained(name)
    images = MemoryImages(np.array([[1, 0, 0], [0, 1, np.nan], [1, 1, 1], [0, 0, 0]]), SMALLEST_SIZES[name])
    weights = {}

    def remember(row):
        weights[str(row["phase"])] = {weight.path: weight.numpy().copy() for weight in model.weights}

    def changed(before, after):
        return {path for path in weights[before] if not np.array_equal(weights[before][path], weights[after][path])}

    remember({"phase": "start"})
    settings = {"epochs": 1, "optimizer": "sgd", "tolerance": 1e9}
    fine_tuning = replace(SETTINGS.fine_tuning, cut=cut, epochs=1, learning_rate=1e-2, batch_size=4)
    run(images, tmp_path, model=model, on_epoch=remember, fine_tuning=fine_tuning, **settings)
    head = {"probability/kernel", "probability/bias"}
    assert changed("start", "frozen") == head
    top = keras.Model(model.get_layer(cut or BACKBONES[name].cut).output, model.output)
    layers = [layer for layer in top.layers if not isinstance(layer, keras.layers.BatchNormalization)]
    assert head < changed("start", "fine_tuning") <= {weight.path for layer in layers for weight in layer.weights}
