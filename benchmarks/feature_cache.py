"""Speed of an epoch of fine-tuning from activations cached at the cut, compared with one from the images.

Run it with ``python benchmarks/feature_cache.py``. It trains the same layers of a DenseNet-121 both ways, on images of
noise and without pretrained weights, and prints the images per second and their ratio.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from _noise_images import NoiseImages

from cxr_pipeline.training.augmentation import build_augmentation
from cxr_pipeline.training.image_sets import ImageSet, batches, epoch_order, image_inputs
from cxr_pipeline.training.networks.build import POOLED, build_model
from cxr_pipeline.training.phases import plan_phases
from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

AUGMENTATION = {
    **{"rotation": 7.0, "translation": 0.05, "zoom": 0.1, "brightness": 0.1, "contrast": 0.2, "noise": 0.01},
    **{"flip": False, "views": 1, "seed": 0},
}
BATCH_SIZE = 32


def main() -> None:
    """Measure both ways."""
    import keras

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--size", type=int, default=224)
    arguments = parser.parse_args()
    images = NoiseImages(arguments.images, arguments.size)
    train = ImageSet.unweighted(
        images=images, sha256=np.array(list(images.images)), y=np.arange(arguments.images)[:, np.newaxis] % 2
    )
    model = build_model(
        name="densenet121",
        weights_file=None,
        size=arguments.size,
        n_outputs=1,
        exclusive=False,
        head_units=128,
        dropout=0.3,
        seed=0,
    )
    for layer in model.layers[: model.layers.index(model.get_layer(POOLED))]:
        layer.trainable = False
    tuning = FineTuningSettings(cut="pool4_pool", epochs=1, learning_rate=1e-4, batch_size=BATCH_SIZE)
    settings = TrainingSettings(
        loss="cross_entropy",
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="constant",
        weight_decay=0.0,
        head_weight_decay=0.0,
        epochs=1,
        batch_size=BATCH_SIZE,
        monitor="val_auc",
        tolerance=0.0,
        patience=None,
        mixed_bfloat16=False,
        seed=0,
        folds=1,
        fine_tuning=tuning,
    )
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        phases = plan_phases(model, train, train, settings=settings, augmentation=AUGMENTATION, folder=Path(folder))
        filling = time.perf_counter() - started
        cached = phases[-1]
        for layer in cached.thawed:
            layer.trainable = True
        with_cache = _rate(cached.network, cached.inputs, train, cached.views)
    image = keras.Input(model.input_shape[1:])
    whole = keras.Model(image, model(build_augmentation(AUGMENTATION)(image)))
    without = _rate(whole, image_inputs(images, model.input_shape[1:]), train, 0)
    print(f"filling the cache: {2 * arguments.images / filling:.1f} images and views per second, once")
    print(f"an epoch from the cache: {with_cache:.1f} images per second")
    print(f"an epoch from the images: {without:.1f} images per second")
    print(f"ratio: {with_cache / without:.1f}")


def _rate(network, inputs, train, views):  # type: ignore[no-untyped-def]
    """Images per second of the second epoch; the first one builds the graph."""
    network.compile("adam", "binary_crossentropy", jit_compile=False)
    for epoch in range(2):
        started = time.perf_counter()
        order = epoch_order(train.count, views=views, seed=0, epoch=epoch)
        targets = (train.y, train.weight)
        network.fit(
            batches(inputs, train.sha256, order, batch_size=BATCH_SIZE, targets=targets), shuffle=False, verbose=0
        )
    return len(order) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
