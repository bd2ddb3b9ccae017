"""Drawing phantoms against encoding the same images as PNG, on one core.

Run ``python benchmarks/phantoms.py``. Both are timed on the same images in one run, so that their ratio can be
compared between machines.
"""

import argparse
import time

import cv2
import numpy as np

from cxr_pipeline.data.phantoms import draw_anatomy, draw_image


def main() -> None:
    """Print images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    anatomies = [draw_anatomy(np.random.default_rng([0, patient]), sex="FM"[patient % 2]) for patient in range(20)]
    drawing = encoding = 0.0
    for number in range(arguments.images):
        start = time.perf_counter()
        image, _ = draw_image(
            np.random.default_rng([1, number]),
            size=arguments.size,
            anatomy=anatomies[number % len(anatomies)],
            findings=("Effusion",) if number % 2 else (),
        )
        drawn = time.perf_counter()
        cv2.imencode(".png", image, (cv2.IMWRITE_PNG_COMPRESSION, 1))
        drawing += drawn - start
        encoding += time.perf_counter() - drawn

    print(f"{arguments.images} images of {arguments.size} px, one core")
    print(f"drawing       {arguments.images / drawing:7.0f} images/s")
    print(f"PNG encoding  {arguments.images / encoding:7.0f} images/s")
    print(f"drawing takes {drawing / encoding:.2f} times as long as encoding")


if __name__ == "__main__":
    main()
