"""The sanity stage through Kedro's runner, on images of noise."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
import yaml
from shipped import CONF, parameters_of
from stage_runs import run_stage

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.framework.config import Network, Sanity, Task, Training
from cxr_pipeline.framework.datasets import FileDataset
from cxr_pipeline.pipelines.sanity import create_pipeline

SIZE, N_IMAGES = 32, 90
TASK = Task(name="effusion", title="T", kind="binary", classes={"well": ("well",), "ill": ("ill",)})
MODEL = Network(name="small_cnn", weights="none", head_units=0, dropout=0.5, pooling="average")
TRAINING = {
    **parameters_of()["training"],
    "folds": 1,
    **{"learning_rate": 5e-3, "weight_decay": 0.1, "head_weight_decay": 0.1, "epochs": 2, "batch_size": 16},
    **{"tolerance": 0.0, "patience": None, "seed": 0},
    "fine_tuning": {"cut": None, "epochs": 1, "learning_rate": 1e-3, "batch_size": 16},
}
SANITY = {
    "chance": {"n_images": 32, "max_ratio": 2},
    "overfitting": {"n_images": 16, "epochs": 40, "max_loss": 0.1, "min_auc": 0.999},
    "shuffled_labels": {"epochs": 2, "false_alarms": 0.001, "permutations": 1000},
    "seed": 0,
}


class Images:
    """Prepared images, by content."""

    recipe, digest = Recipe(size=SIZE, mode="fit", max_megapixels=1), "noise"
    pixels = np.random.default_rng(0).integers(0, 256, (N_IMAGES, SIZE, SIZE), dtype=np.uint8)

    def read(self, sha256s):
        return self.pixels[[int(sha256, 16) for sha256 in sha256s]]


def run(folders, *, phantom=False, training=None):
    """Run the stage as a task does, with its outputs in files where the catalog has them."""
    rows = pd.DataFrame({"source": "images", "image": [f"{place}.png" for place in range(N_IMAGES)]})
    rows["sha256"] = [f"{place:064x}" for place in range(N_IMAGES)]
    ill = np.arange(N_IMAGES) % 3 == 0
    manifest = rows.assign(label_well=1.0 - ill, label_ill=ill.astype(float))
    splits = rows.assign(patient_id=None, fold_order=range(N_IMAGES), split=["train"] * 50 + ["validation"] * 40)
    entries = {
        "enhanced_images": Images(),
        "manifest": manifest,
        "splits": splits,
        "sampling_plan": rows[:50].assign(count=1, weight=1.0, member=1),
        "data_report": {"phantom": phantom},
        "params:task": TASK,
        "params:model": MODEL,
        "params:training": Training(**{**TRAINING, **(training or {})}),
        "params:sanity": Sanity(**SANITY),
        "params:folders": folders,
    }
    outputs = {}
    declared = yaml.safe_load((CONF / "base" / "catalog" / "05_sanity.yml").read_text())
    for name in ("sanity_report", "sanity_figure"):
        path = declared["{task}." + name]["filepath"]
        path = path.replace("${globals:data}", str(folders.data)).replace("{task}", "effusion")
        outputs[name] = FileDataset(filepath=path)
    return run_stage(create_pipeline(), entries, outputs)["sanity_report"]


def test_a_sound_training_passes(folders, caplog):
    with caplog.at_level(logging.INFO, logger="cxr_pipeline.pipelines.sanity"):
        report = run(folders, phantom=True)
    assert (report["task"], report["phantom"], report["passed"]) == ("effusion", True, True)
    assert [verdict["name"] for verdict in report["verdicts"]] == ["chance", "overfitting", "shuffled_labels"]
    assert [caplog.text.count(f"{name}: passed") for name in ("chance", "overfitting", "shuffled labels")] == [1, 1, 1]
    assert report["verdicts"][0]["expected"]["loss"] == pytest.approx(np.log(2), rel=1e-4)
    assert report["verdicts"][1]["measured"]["images"] == 16
    assert report["verdicts"][2]["measured"].items() >= {"epochs": 2, "images": 40}.items()
    figure = folders.data / "08_reporting" / "effusion" / "sanity.png"
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_failed_check_fails_the_run_after_the_files_are_written(folders):
    with pytest.raises(UserError) as failure:
        run(folders, training={"learning_rate": 1e-9})
    figure = folders.data / "08_reporting" / "effusion" / "sanity.png"
    report = json.loads(figure.with_suffix(".json").read_text())
    assert not report["passed"]
    assert [verdict["passed"] for verdict in report["verdicts"]] == [True, False, True]
    assert figure.is_file()
    message = str(failure.value)
    assert message.startswith("1 of 3 sanity checks of effusion failed. Overfitting: Trained on 16 images")
    assert "Usual cause: the learning rate is far too low" in message
    assert str(figure) in message
