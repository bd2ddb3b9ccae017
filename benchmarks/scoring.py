"""Scoring of a folder against the network's forward pass alone on the same images, in one run, turn by turn.

Run ``python benchmarks/scoring.py [FOLDER] [--model densenet121] [--size 224] [--images 400]``. With a folder of PNG
images, these are repeated under other names; without, images of 1024 pixels are drawn. The network has random weights,
which take as long as others. A ratio of 1 would mean that reading, decoding and writing cost nothing.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.folders import ImageFolder
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.scoring import score_folder

ROUNDS = 3


def drawn_images(n_images: int) -> Iterator[bytes]:
    """Draw images that compress about as well as those of NIH ChestX-ray14."""
    rng = np.random.default_rng(0)
    for _ in range(n_images):
        coarse = cv2.resize(rng.random((12, 12)) * 200, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        noise = cv2.GaussianBlur(rng.standard_normal((1024, 1024)), (0, 0), 1.2) * 8
        yield cv2.imencode(".png", (coarse + noise).clip(0, 255).astype(np.uint8))[1].tobytes()


def write_images(folder: Path, source: Path | None, n_images: int) -> None:
    """Write images, some of them several times."""
    folder.mkdir()
    originals = [path.read_bytes() for path in sorted(source.rglob("*.png"))[:64]] if source else list(drawn_images(16))
    for number, content in enumerate(islice(cycle(originals), n_images)):
        (folder / f"{number:06}.png").write_bytes(content)


def classifier_of(model: str, size: int) -> ImageClassifier:
    """Make a classifier with an untrained network."""
    # Not at the top, because the processes that decode also import this file, but do not need TensorFlow.
    from cxr_pipeline.evaluation.decision_rule import fit_decision_rule
    from cxr_pipeline.training.networks.build import build_model

    network = build_model(
        name=model, weights_file=None, size=size, n_outputs=1, exclusive=False, head_units=0, dropout=0, seed=1
    )
    rule = fit_decision_rule(
        [[0], [1]],
        [[0.2], [0.8]],
        kind="binary",
        classes=("nofinding", "effusion"),
        calibration="none",
        policy={"rule": "fixed", "value": 0.5},
    )
    return ImageClassifier(network, Recipe(size=size, mode="fit", max_megapixels=100.0), rule, {})


def forward(classifier: ImageClassifier, images: np.ndarray, batch_size: int) -> None:
    """Run only the network on prepared images."""
    for start in range(0, len(images), batch_size):
        classifier.model.predict_on_batch(images[start : start + batch_size, ..., np.newaxis])


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    """Time both in turn and print medians and ratio; then of a second run, in which no image is scored again."""
    images, batch_size = folder / "images", arguments.batch_size
    write_images(images, arguments.folder, arguments.images)
    classifier = classifier_of(arguments.model, arguments.size)
    contents = [path.read_bytes() for path in sorted(images.iterdir())[:64]]
    few = np.stack([classifier.recipe.prepare(content) for content in contents])
    prepared = few[np.arange(arguments.images) % len(few)]
    for n_images in {batch_size, arguments.images % batch_size} - {0}:
        forward(classifier, prepared[:n_images], batch_size)
    seconds: dict[str, list[float]] = {"forward pass alone": [], "scoring": [], "scoring again": []}
    for turn in range(ROUNDS):
        start = time.perf_counter()
        forward(classifier, prepared, batch_size)
        seconds["forward pass alone"].append(time.perf_counter() - start)
        for name in ("scoring", "scoring again"):
            start = time.perf_counter()
            predictions = score_folder(
                classifier, ImageFolder(images), scored_by="1", parts=folder / f"parts-{turn}", batch_size=batch_size
            )
            n_rows = sum(len(table) for table in predictions)
            seconds[name].append(time.perf_counter() - start)
            assert n_rows == arguments.images
            del predictions
    base = float(np.median(seconds["forward pass alone"]))
    print(f"{arguments.images} images, {arguments.model} at {arguments.size}, {len(os.sched_getaffinity(0))} cores")
    for name, measured in seconds.items():
        median = float(np.median(measured))
        print(f"{name:<20}{arguments.images / median:9.1f} images/s   ratio {base / median:.2f}")


def main() -> None:
    """Measure in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="PNG images, such as the originals of NIH ChestX-ray14")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=64)
    folder = Path(tempfile.mkdtemp())
    try:
        compare(folder, parser.parse_args())
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
