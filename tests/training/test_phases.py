import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from cxr_pipeline.training.augmentation import STRENGTHS
from cxr_pipeline.training.checkpoints import Row
from cxr_pipeline.training.fitting import fit
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.heads import POOLED
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

SETTINGS = TrainingSettings(
    loss="cross_entropy",
    optimizer="sgd",
    learning_rate=1e-2,
    schedule="constant",
    weight_decay=0.0,
    head_weight_decay=0.0,
    epochs=1,
    batch_size=4,
    monitor="val_loss",
    tolerance=1e9,
    patience=None,
    mixed_bfloat16=False,
    seed=0,
    fine_tuning=FineTuningSettings(cut=None, epochs=1, learning_rate=1e-2, batch_size=4),
)
LABELS = np.array([[1, 0, 0], [0, 1, np.nan], [1, 1, 1], [0, 0, 0]], np.float32)


class NoiseImages:
    """Four images of noise."""

    digest = "noise"

    def __init__(self, size: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, size, size), np.uint8)
        self.by_content = {hashlib.sha256(image.tobytes()).hexdigest(): image for image in images}

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        return np.stack([self.by_content[sha256] for sha256 in sha256s])


def frozen(name: str) -> keras.Model:
    size = BACKBONES[name].smallest
    shape = {"size": size, "n_outputs": 3, "head_units": 0, "dropout": 0.1, "seed": 0}
    model = build_model(name=name, weights_file=None, exclusive=False, **shape)
    backbone = model.layers[: model.layers.index(model.get_layer(POOLED))]
    for layer in backbone:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1
    # Gives batch normalisation the statistics of noise, so that an update in training would show.
    model(np.random.default_rng(1).integers(0, 256, (8, size, size, 1)).astype(np.float32), training=True)
    for layer in backbone:
        layer.trainable = False
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy().copy() for weight in model.weights}


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in before.items() if not np.array_equal(value, after[path])}


# Two of the cuts are later than the default, to save time.
@pytest.mark.parametrize(
    ("name", "cut"),
    [(name, {"densenet121": "pool4_pool", "efficientnetv2b0": "block6e_add"}.get(name)) for name in BACKBONES],
)
def test_every_backbone_is_trained_above_its_cut_only(name: str, cut: str | None, tmp_path: Path) -> None:
    model, images = frozen(name), NoiseImages(BACKBONES[name].smallest)
    start, after_frozen = values(model), {}
    image_set = ImageSet.unweighted(images=images, sha256=np.array(list(images.by_content)), y=LABELS)

    def on_epoch(row: Row) -> None:
        if row["phase"] == "frozen":
            after_frozen.update(values(model))

    augmentation: dict[str, Any] = {**dict.fromkeys(STRENGTHS, 0), "views": 0, "seed": 0}
    fit(
        model=model,
        train=image_set,
        validation=image_set,
        settings=replace(SETTINGS, fine_tuning=replace(SETTINGS.fine_tuning, cut=cut)),
        exclusive=False,
        augmentation=augmentation,
        features=tmp_path / "features",
        checkpoints=tmp_path / "checkpoints",
        on_epoch=on_epoch,
    )
    head = {"probability/kernel", "probability/bias"}
    assert changed(start, after_frozen) == head
    top = keras.Model(model.get_layer(cut or BACKBONES[name].cut).output, model.output)
    layers = [layer for layer in top.layers if not isinstance(layer, keras.layers.BatchNormalization)]
    assert head < changed(start, values(model)) <= {weight.path for layer in layers for weight in layer.weights}
