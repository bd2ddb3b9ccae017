"""Speed of the image store on images of 1024 x 1024 pixels, compared with a loop over OpenCV.

Run ``python benchmarks/preparation.py [FOLDER]``. PNG images from the folder are repeated with different content;
without a folder, images are generated. Both methods prepare the same images in one run, in turn.
"""

import argparse
import hashlib
import shutil
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources.readers import FileReader

RECIPE = Recipe(size=224, mode="fit", max_megapixels=100)
ROUNDS = 3


def generated_images(n_images: int) -> Iterator[bytes]:
    """Generate images that compress about as well as those of NIH ChestX-ray14."""
    rng = np.random.default_rng(0)
    for _ in range(n_images):
        coarse = cv2.resize(rng.random((12, 12)) * 200, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        noise = cv2.GaussianBlur(rng.standard_normal((1024, 1024)), (0, 0), 1.2) * 8
        yield cv2.imencode(".png", (coarse + noise).clip(0, 255).astype(np.uint8))[1].tobytes()


def with_number(png: bytes, number: int) -> bytes:
    """Change the content of a PNG but not its pixels, by a text chunk with a number before the end chunk."""
    chunk = b"tEXt" + b"number\0%d" % number
    return png[:-12] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[-12:]


def write_images(folder: Path, source: Path | None, n_images: int) -> dict[str, Path]:
    """Write images and return a mapping from SHA-256 to path."""
    originals = [path.read_bytes() for path in sorted(source.glob("*.png"))] if source else list(generated_images(16))
    files = {}
    for number, png in enumerate(islice(cycle(originals), n_images)):
        content = with_number(png, number)
        path = folder / f"{number:06}.png"
        path.write_bytes(content)
        files[hashlib.sha256(content).hexdigest()] = path
    return files


def loop(files: dict[str, Path]) -> None:
    """Prepare images with OpenCV on one thread."""
    for path in files.values():
        cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (224, 224), interpolation=cv2.INTER_AREA)


def compare(folder: Path, source: Path | None, n_images: int) -> None:
    """Time the store and the loop in turn, and print the medians and their ratio."""
    cv2.setNumThreads(1)
    images = folder / "images"
    images.mkdir()
    files = write_images(images, source, n_images)
    reader = FileReader(images)
    in_source = {sha256: (reader, path.name) for sha256, path in files.items()}
    speeds: dict[str, list[float]] = {"OpenCV loop": [], "store, 1 process": [], "store, all cores": []}
    for turn in range(ROUNDS):
        for name, workers in (("store, 1 process", 1), ("store, all cores", None)):
            start = time.perf_counter()
            PreparedImages(folder / f"{name}-{turn}", RECIPE).fill(in_source, workers=workers)
            speeds[name].append(n_images / (time.perf_counter() - start))
        start = time.perf_counter()
        loop(files)
        speeds["OpenCV loop"].append(n_images / (time.perf_counter() - start))
    base = float(np.median(speeds["OpenCV loop"]))
    for name, measured in speeds.items():
        speed = float(np.median(measured))
        print(f"{name:<18}{speed:8.0f} images/s   ratio {speed / base:.2f}")


def main() -> None:
    """Run both measurements in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="PNG images, such as the originals of NIH ChestX-ray14")
    parser.add_argument("--images", type=int, default=1500)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        compare(folder, arguments.folder, arguments.images)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
