"""Speed of drawing phantoms, compared with encoding the same images as PNG, on one core.

Run ``python benchmarks/phantoms.py``. Both are timed on the same images in one run, so that their ratio can be
compared between machines.
"""

import argparse
import time

import cv2

from cxr_pipeline.data.phantoms import draw_patient


def main() -> None:
    """Print the images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=160)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)

    start = time.perf_counter()
    images = [
        image.pixels
        for patient in range(1, arguments.patients + 1)
        for image in draw_patient(patient, size=arguments.size, prevalence={"Effusion": 0.5}, seed=0)
    ]
    drawn = time.perf_counter()
    for image in images:
        cv2.imencode(".png", image, (cv2.IMWRITE_PNG_COMPRESSION, 1))
    drawing, encoding = drawn - start, time.perf_counter() - drawn
    print(f"{len(images)} images of {arguments.size} px, one core")
    print(f"drawing       {len(images) / drawing:7.0f} images/s")
    print(f"PNG encoding  {len(images) / encoding:7.0f} images/s")
    print(f"drawing takes {drawing / encoding:.2f} times as long as encoding")


if __name__ == "__main__":
    main()
