"""Compare the time of twelve models in one command with that of twelve scripts.

Run it with ``python benchmarks/ablation_command.py``. The command is ``kedro run --pipeline=abnormality_ablation``: it
draws, reads and prepares the images, trains, calibrates and tests in twelve processes, as many at a time as there are
cores, and writes the page. Each script is a process too; it starts from the prepared images, passes them through the
whole network in every epoch, and scores validation and test images once. The networks are frozen with random weights,
which take as long as others. Scripts that differ only in the monitor do the same work: such a pair is measured once and
counted twice. It prints seconds and their ratio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
from _project import Project
from ablation import AUGMENTATION, SETTINGS, TWELVE, frozen, train_from_images

from cxr_pipeline.common.mappings import lay_over
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.experiments.task_run import RunOutputs
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.weights import KERAS_3_FILE

TASK = "abnormality"
NETWORKS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "inceptionv3": keras.applications.InceptionV3,
}


def main() -> None:
    """Measure both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=100, help="each has one to four images")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "OVERRIDES"), help="run one of the scripts")
    arguments = parser.parse_args()
    if arguments.one:
        run_script(Path(arguments.one[0]), json.loads(arguments.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), arguments.patients, arguments.size)
        command = seconds_of(lambda: project.run("ablation"))
        table = pd.read_csv(project.data / "08_reporting" / TASK / "ablation.csv")
        if len(table) != len(TWELVE) or table["error"].notna().any():
            sys.exit((project.folder / "printed.txt").read_text())
        print(f"one command: {command:.0f} s, {len(RunOutputs(project.data, TASK).load('splits'))} images", flush=True)
        scripts = 0.0
        for name, overrides in TWELVE.items():
            if overrides["training"]["monitor"] == SETTINGS.monitor:
                script = [sys.executable, __file__, "--one", str(project.data), json.dumps(overrides)]
                scripts += 2 * seconds_of(lambda script=script: subprocess.run(script, check=True))
                print(f"{scripts:7.1f} s  scripts, {name} twice", flush=True)
    print(f"twelve scripts: {scripts:.0f} s")
    print(f"ratio: {scripts / command:.1f}")


def make_project(folder: Path, n_patients: int, size: int) -> Project:
    """Make a project with phantom images, and weights for the three networks."""
    parameters = {
        "sources": {"phantoms": {"n_patients": n_patients, "size": max(size, 128)}},
        "augmentation": AUGMENTATION,
        "model": {"weights": "imagenet", "pooling": "multilevel"},
        "training": {"epochs": SETTINGS.epochs},
    }
    project = Project.make(folder, task=TASK, params=f"{TASK}.resolution.size={size}", parameters=parameters)
    weights = project.data / "01_raw" / "weights"
    weights.mkdir(parents=True)
    for name, network in NETWORKS.items():
        network(include_top=False, weights=None).save_weights(weights / KERAS_3_FILE.format(name))
    return project


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def run_script(data: Path, overrides: dict[str, Any]) -> None:
    """Train one model without cached features, and score validation and test images."""
    images = PreparedImages.from_dict(json.loads((data / "03_primary" / TASK / "enhanced_images.json").read_text()))
    parameters = lay_over({"augmentation": AUGMENTATION}, overrides)
    train, validation, test = (image_set(data, images, split) for split in ("train", "validation", "test"))
    network = frozen(parameters["model"]["name"], images.recipe.size)
    train_from_images(network, parameters, train, validation)
    for tested in (validation, test):
        network.predict(images.read(list(tested.sha256))[..., np.newaxis], verbose=0)


def image_set(data: Path, images: PreparedImages, split: str) -> ImageSet:
    """Return the images of a split with made-up labels, which do not change the time."""
    manifest = pd.read_parquet(data / "03_primary" / TASK / "manifest.parquet")
    sha256s = select_split(manifest, RunOutputs(data, TASK).load("splits"), split)["sha256"].to_numpy(str)
    return ImageSet.unweighted(images=images, sha256=sha256s, y=np.arange(len(sha256s))[:, np.newaxis] % 2)


if __name__ == "__main__":
    main()
