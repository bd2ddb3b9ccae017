"""The forward pass of an ensemble against that of a single network, in one run, turn by turn.

Run ``python benchmarks/ensemble.py [--model densenet121] [--folds 5] [--size 224] [--images 128]``. The networks have
random weights, which take as long as others. Up to the cut, an ensemble computes its layers once: with a cut at the
pooled features, the ratio is close to 1.
"""

import argparse
import os
import time
from typing import Any

import numpy as np

from cxr_pipeline.training.networks.build import POOLED, build_model
from cxr_pipeline.training.networks.ensemble import combine

CUTS = (POOLED, "pool4_pool", "pool3_pool")
ROUNDS = 3


def main() -> None:
    """Print the medians of both and their ratio for each cut."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--cuts", nargs="*", default=CUTS)
    arguments = parser.parse_args()
    images = np.random.default_rng(0).integers(0, 256, (arguments.images, arguments.size, arguments.size, 1), np.uint8)
    options: dict[str, Any] = {"name": arguments.model, "size": arguments.size, "pooling": "multilevel"}
    networks = {"a single network": build_model(**options)}
    for cut in arguments.cuts:
        lowest = None if cut == POOLED else cut  # feature maps below the cut are not pooled
        members = [build_model(**options, seed=seed, cut=lowest) for seed in range(arguments.folds)]
        networks[f"{arguments.folds}, cut at {cut}"] = combine(members, cut)
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for network in networks.values():
        network.predict(images[:64], batch_size=32, verbose=0)
    for _ in range(ROUNDS):
        for name, network in networks.items():
            start = time.perf_counter()
            network.predict(images, batch_size=32, verbose=0)
            seconds[name].append(time.perf_counter() - start)
    base = float(np.median(seconds["a single network"]))
    print(f"{arguments.images} images, {arguments.model} at {arguments.size}, {len(os.sched_getaffinity(0))} cores")
    for name, measured in seconds.items():
        median = float(np.median(measured))
        print(f"{name:<28}{arguments.images / median:9.1f} images/s   ratio {base / median:.2f}")


if __name__ == "__main__":
    main()
