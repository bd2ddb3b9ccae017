"""How much faster twelve models are as one ablation than trained one by one from the films.

Run it with ``python benchmarks/ablation.py``. The ablation is the whole command: ``kedro run
--pipeline=abnormality_ablation`` draws, reads and prepares the films, runs twelve processes and writes the page. One by
one, the same twelve are what a script makes of them: a process each, which has the prepared films and sends them
through the whole network in every epoch, changed anew where they are augmented, and measures nothing on test films.
The networks are frozen with random weights, which cost what others cost. It prints seconds and their ratio.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pandas as pd
import yaml
from _project import REPOSITORY, Project

from cxr_pipeline.augmentation import STRENGTHS, build_augmentation
from cxr_pipeline.config.experiments import Ablation
from cxr_pipeline.experiments.outputs import Outputs
from cxr_pipeline.images.store import PreparedFilms
from cxr_pipeline.models.build import build_model
from cxr_pipeline.models.heads import POOLED
from cxr_pipeline.models.weights import PUBLISHED
from cxr_pipeline.nesting import lay_over
from cxr_pipeline.splits import films_of
from cxr_pipeline.training.batches import batches, epoch_order, film_inputs
from cxr_pipeline.training.film_sets import FilmSet

TASK = "abnormality"
NETWORKS = {
    "vgg16": keras.applications.VGG16,
    "resnet50": keras.applications.ResNet50,
    "inceptionv3": keras.applications.InceptionV3,
}
PARAMETERS = REPOSITORY / "conf" / "base" / "parameters"
EPOCHS = yaml.safe_load((PARAMETERS / "defaults.yml").read_text())["defaults"]["training"]["epochs"]


def main() -> None:
    """Time both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=120, help="each has one to four films")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument(
        "--one", nargs=2, metavar=("FOLDER", "MODEL"), help="train this one, as a process of the second way"
    )
    arguments = parser.parse_args()
    if arguments.one:
        train_one(Path(arguments.one[0]), json.loads(arguments.one[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder), arguments.patients, arguments.size)
        shared = seconds_of(lambda: project.run("ablation"))
        table = pd.read_csv(project.data / "08_reporting" / TASK / "ablation.csv")
        if len(table) != len(models()) or table["error"].notna().any():
            sys.exit((project.folder / "printed.txt").read_text())
        print(f"twelve cells of one ablation: {shared:.0f} s", flush=True)
        alone = sum(seconds_of(lambda own=own: train(project, own)) for own in models().values())
    print(f"twelve models one by one from the films: {alone:.0f} s")
    print(f"ratio: {alone / shared:.1f}")


def make_project(folder: Path, n_patients: int, size: int) -> Project:
    """A project with drawn films, and weights for the three networks."""
    parameters = {
        "sources": {"phantoms": {"n_patients": n_patients, "size": max(size, 128)}},
        "resolution": {"size": size},
        "model": {"weights": "imagenet"},
        "training": {"epochs": EPOCHS},
    }
    project = Project.make(folder, task=TASK, params="seed=0", parameters=parameters)
    weights = project.data / "01_raw" / "weights"
    weights.mkdir(parents=True)
    for name, network in NETWORKS.items():
        network(include_top=False, weights=None).save_weights(weights / PUBLISHED[name].alias)
    return project


def models() -> dict[str, dict[str, Any]]:
    """What each of the twelve overrides, by its name."""
    task = yaml.safe_load((PARAMETERS / "tasks.yml").read_text())[TASK]
    return Ablation(**task["ablation"]).overrides()


def seconds_of(work: Any) -> float:
    """How long it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def train(project: Project, overrides: dict[str, Any]) -> None:
    """Train one model in a process of its own."""
    subprocess.run([sys.executable, __file__, "--one", str(project.data), json.dumps(overrides)], check=True)


def train_one(data: Path, overrides: dict[str, Any]) -> None:
    """Train the head as one would without this project: every film through the whole network, in every epoch."""
    defaults = yaml.safe_load((PARAMETERS / "defaults.yml").read_text())["defaults"]
    parameters = lay_over({"augmentation": defaults["augmentation"]}, overrides)
    films = PreparedFilms.from_dict(json.loads((data / "03_primary" / TASK / "enhanced_images.json").read_text()))
    sets = {split: film_set(data, films, split) for split in ("train", "validation")}
    network = frozen(parameters["model"]["name"], films.recipe.size)
    film = keras.Input(network.input_shape[1:])
    changes = build_augmentation(**{name: parameters["augmentation"][name] for name in (*STRENGTHS, "seed")})
    whole = keras.Model(film, network(changes(film)))
    whole.compile("adamax", "binary_crossentropy", metrics=["accuracy", "recall"])
    whole.fit(shown(sets["train"]), validation_data=shown(sets["validation"]), epochs=EPOCHS, verbose=0)


def film_set(data: Path, films: PreparedFilms, split: str) -> FilmSet:
    """The films of a split; on which of them something is matters to no clock."""
    manifest = pd.read_parquet(data / "03_primary" / TASK / "manifest.parquet")
    sha256s = films_of(manifest, Outputs(data, TASK).splits, split)["sha256"].to_numpy(str)
    return FilmSet.unweighted(films=films, sha256=sha256s, y=np.arange(len(sha256s))[:, np.newaxis] % 2)


def shown(films: FilmSet) -> Any:
    """The films of an epoch, in batches."""
    order = epoch_order(films.count, views=0, seed=0, epoch=0)
    return batches(film_inputs(films.films, films.sha256), order, batch_size=32, targets=(films.y, films.weight))


def frozen(name: str, size: int) -> keras.Model:
    """A network of which only the head is trained."""
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


if __name__ == "__main__":
    main()
