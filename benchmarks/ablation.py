"""Compare the time of twelve training runs as cells of one ablation with that of training each from the images.

Run it with ``python benchmarks/ablation.py``. The twelve are those of the ``abnormality`` ablation: three frozen
backbones, with and without augmentation, the epoch selected by accuracy or by recall. Both ways use the same images
of noise, no pretrained weights, and one process. It prints seconds and their ratio. ``ablation_command.py`` measures
the whole command, with its processes, thresholds, figures and page.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
from _noise_images import NoiseImages

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.experiments.cells import cross
from cxr_pipeline.training.augmentation import build_augmentation
from cxr_pipeline.training.fitting import fit
from cxr_pipeline.training.image_sets import ImageSet, batches, epoch_order, image_inputs
from cxr_pipeline.training.networks.build import POOLED, build_model
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

STRONG = {"rotation": 7.0, "translation": 0.05, "zoom": 0.1, "brightness": 0.1, "contrast": 0.15, "noise": 0.01}
AUGMENTATION: dict[str, Any] = {**STRONG, "flip": False, "views": 5, "seed": 0}
NONE: dict[str, Any] = {**dict.fromkeys(STRONG, 0.0), "views": 0}
TWELVE = cross(
    {
        "backbone": {name: {"model": {"name": name}} for name in ("vgg16", "resnet50", "inceptionv3")},
        "augmentation": {"augmented": {}, "not augmented": {"augmentation": NONE}},
        "epoch": {name: {"training": {"monitor": f"val_{name}"}} for name in ("accuracy", "recall")},
    }
)
SETTINGS = TrainingSettings(
    loss="cross_entropy",
    optimizer="adamax",
    learning_rate=1e-3,
    schedule="cosine",
    weight_decay=1e-4,
    head_weight_decay=10.0,
    epochs=15,
    batch_size=32,
    monitor="val_accuracy",
    tolerance=0.01,
    patience=None,
    mixed_bfloat16=False,
    seed=0,
    folds=1,
    fine_tuning=FineTuningSettings(cut=None, epochs=0, learning_rate=1e-4, batch_size=32),
)


def main() -> None:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--size", type=int, default=80)
    arguments = parser.parse_args()
    images = NoiseImages(arguments.images, arguments.size)
    train, validation = _sets(images)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for name, overrides in TWELVE.items():
            parameters = _parameters(overrides)
            settings = replace(SETTINGS, monitor=parameters["training"]["monitor"])
            fit(
                model=frozen(parameters["model"]["name"], arguments.size),
                train=train,
                validation=validation,
                settings=settings,
                exclusive=False,
                augmentation=parameters["augmentation"],
                features=Path(folder, "features"),
                checkpoints=Path(folder, "checkpoints"),
                on_epoch=lambda row: None,
            )
            print(f"{time.perf_counter() - started:7.1f} s  ablation: {name}", flush=True)
        cached = time.perf_counter() - started
    started = time.perf_counter()
    for name, overrides in TWELVE.items():
        parameters = _parameters(overrides)
        train_from_images(frozen(parameters["model"]["name"], arguments.size), parameters, train, validation)
        print(f"{time.perf_counter() - started:7.1f} s  one by one: {name}", flush=True)
    alone = time.perf_counter() - started
    print(f"twelve cells of one ablation: {cached:.0f} s")
    print(f"twelve models one by one from the images: {alone:.0f} s")
    print(f"ratio: {alone / cached:.1f}")


def _sets(images: NoiseImages) -> tuple[ImageSet, ImageSet]:
    sha256s = np.array(list(images.images))
    y = np.arange(len(sha256s))[:, np.newaxis] % 2
    n_train = len(sha256s) * 6 // 7
    return (
        ImageSet.unweighted(images=images, sha256=sha256s[:n_train], y=y[:n_train]),
        ImageSet.unweighted(images=images, sha256=sha256s[n_train:], y=y[n_train:]),
    )


def _parameters(overrides: Mapping[str, Any]) -> dict[str, Any]:
    return lay_over({"augmentation": AUGMENTATION}, overrides)


def frozen(name: str, size: int) -> keras.Model:
    """Build a network of which only the head is trained."""
    model = build_model(
        name=name,
        weights_file=None,
        size=size,
        n_outputs=1,
        exclusive=False,
        head_units=0,
        dropout=0.5,
        pooling="multilevel",
        seed=0,
    )
    for layer in model.layers[: model.layers.index(model.get_layer(POOLED))]:
        layer.trainable = False
    return model


def train_from_images(model: keras.Model, parameters: dict[str, Any], train: ImageSet, validation: ImageSet) -> None:
    """Train the head without cached features: every image passes the whole network in every epoch."""
    image, inputs = keras.Input(model.input_shape[1:]), image_inputs(train.images, model.input_shape[1:])
    whole = keras.Model(image, model(build_augmentation(parameters["augmentation"])(image)))
    whole.compile("adamax", "binary_crossentropy", metrics=["accuracy", "recall"])
    for epoch in range(SETTINGS.epochs):
        order = epoch_order(train.count, views=0, seed=0, epoch=epoch)
        targets, in_validation = (train.y, train.weight), (validation.y, validation.weight)
        whole.fit(
            batches(inputs, train.sha256, order, batch_size=32, targets=targets),
            validation_data=batches(inputs, validation.sha256, batch_size=32, targets=in_validation),
            verbose=0,
        )


if __name__ == "__main__":
    main()
