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


class NoiseImages:
    """A few images of noise."""

    digest = "noise"

    def __init__(self, size: int) -> None:
        images = np.random.default_rng(0).integers(0, 256, (4, size, size), np.uint8)
        self.by_content = {hashlib.sha256(image.tobytes()).hexdigest(): image for image in images}

    def read(self, sha256s: Sequence[str]) -> np.ndarray:
        return np.stack([self.by_content[sha256] for sha256 in sha256s])


def frozen(name: str) -> keras.Model:
    model = build_model(
        name=name,
        weights_file=None,
        size=BACKBONES[name].smallest,
        n_outputs=3,
        exclusive=False,
        head_units=0,
        dropout=0.1,
        seed=0,
    )
    below_head = model.layers[: model.layers.index(model.get_layer(POOLED))]
    for layer in below_head:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.1
    # So that batch normalisation knows such images; what it then learns in training would show at once.
    model(np.random.default_rng(1).integers(0, 256, (8, *model.input_shape[1:])).astype(np.float32), training=True)
    for layer in below_head:
        layer.trainable = False
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: weight.numpy().copy() for weight in model.weights}


# Two of the cuts are later than the backbone's own, which only saves time.
@pytest.mark.parametrize(
    ("name", "cut"),
    [(name, {"densenet121": "pool4_pool", "efficientnetv2b0": "block6e_add"}.get(name)) for name in BACKBONES],
)
def test_every_backbone_is_trained_above_its_cut_and_nowhere_else(name: str, cut: str | None, tmp_path: Path) -> None:
    model, images = frozen(name), NoiseImages(BACKBONES[name].smallest)
    start, after_frozen = values(model), {}
    labels = np.array([[1, 0, 0], [0, 1, np.nan], [1, 1, 1], [0, 0, 0]], np.float32)
    image_set = ImageSet.unweighted(images=images, sha256=np.array(list(images.by_content)), y=labels)

    def remember(row: Row) -> None:
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
        on_epoch=remember,
    )
    head = {"probability/kernel", "probability/bias"}
    assert _changed(start, after_frozen) == head
    top = keras.Model(model.get_layer(cut or BACKBONES[name].cut).output, model.output)
    above = {
        weight.path
        for layer in top.layers
        if not isinstance(layer, keras.layers.BatchNormalization)
        for weight in layer.weights
    }
    assert head < _changed(start, values(model)) <= above


def _changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    return {path for path, value in before.items() if not np.array_equal(value, after[path])}
