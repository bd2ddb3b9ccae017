"""How much faster heat maps are in batches than one image at a time.

Run it with ``python benchmarks/grad_cam.py``. It draws the maps of the same images of noise both ways, with a network
without pretrained weights, and prints images a second and their ratio.
"""

import argparse
import os
import time

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from cxr_pipeline.evaluation.grad_cam import BATCH_SIZE, GradCam
from cxr_pipeline.training.networks.build import build_model


def main() -> None:
    """Time both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model = build_model(
        name=arguments.model,
        weights_file=None,
        size=arguments.size,
        n_outputs=1,
        exclusive=False,
        head_units=0,
        dropout=0.0,
        seed=0,
    )
    shape = (arguments.images, arguments.size, arguments.size)
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    cam, rates = GradCam(model), {BATCH_SIZE: 0.0, 1: 0.0}
    # In turns, and the best of them, so that what else the machine does falls on both alike.
    for batch_size in (BATCH_SIZE, 1) * arguments.rounds:
        rates[batch_size] = max(rates[batch_size], _rate(cam, images, batch_size))
    batched, alone = rates.values()
    print(f"in batches of {BATCH_SIZE}: {batched:.1f} images a second")
    print(f"one image at a time: {alone:.1f} images a second")
    print(f"ratio: {batched / alone:.1f}")


def _rate(cam: GradCam, images: np.ndarray, batch_size: int) -> float:
    """Images a second, after a first batch that builds the graph."""
    cam.heatmaps(images[:batch_size], 0, batch_size)
    started = time.perf_counter()
    cam.heatmaps(images, 0, batch_size)
    return len(images) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
