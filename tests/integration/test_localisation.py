"""Heat maps of a trained network on phantoms, where the location of each finding is known."""

import numpy as np
import pandas as pd
import pytest
from shipped import parameters_of

from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.data.sources.nih import SIDES
from cxr_pipeline.evaluation.grad_cam import explain_images
from cxr_pipeline.framework.config import Training
from cxr_pipeline.training.augmentation import STRENGTHS
from cxr_pipeline.training.fitting import fit
from cxr_pipeline.training.image_sets import ImageSet
from cxr_pipeline.training.networks.build import build_model

# Trains a network for about a minute.
pytestmark = pytest.mark.slow

SIZE = 128
TRAINING, VALIDATION, TEST = 840, 60, 200
SETTINGS = Training(
    **{
        **parameters_of()["training"],
        **{"loss": "cross_entropy", "optimizer": "adamw", "learning_rate": 0.01, "schedule": "cosine", "epochs": 22},
        **{"weight_decay": 1e-3, "head_weight_decay": 1e-3, "batch_size": 32, "monitor": "val_auc", "tolerance": 0.02},
        **{"patience": None, "mixed_bfloat16": False, "seed": 0},
        "fine_tuning": {"cut": None, "epochs": 0, "learning_rate": 1e-3, "batch_size": 32},
    }
)
AUGMENTATION = {
    **dict.fromkeys(STRENGTHS, 0.0),
    **{"rotation": 5.0, "translation": 0.03, "flip": True, "views": 1, "seed": 0},
}


class PhantomImages:
    """Images in memory whose names are their numbers."""

    digest = "phantoms"

    def __init__(self, phantoms):
        self.phantoms = phantoms
        self.pixels = np.stack([image.pixels for image in phantoms])
        self.y = np.array([[bool(image.labels)] for image in phantoms], np.float32)

    def read(self, sha256s):
        return self.pixels[[int(sha256) for sha256 in sha256s]]


@pytest.fixture(scope="module")
def images():
    """The first image of each patient; half of them show an effusion."""
    patients = range(1, TRAINING + VALIDATION + TEST + 1)
    drawn = (draw_patient(patient, size=SIZE, prevalence={"Effusion": 0.5}, seed=1) for patient in patients)
    return PhantomImages([next(images) for images in drawn])


@pytest.fixture(scope="module")
def model(images, tmp_path_factory):
    """Trained on other patients than those of the heat maps."""
    folder = tmp_path_factory.mktemp("training")
    names = np.arange(len(images.y)).astype(str)
    train, validation = (
        ImageSet.unweighted(images=images, sha256=names[part], y=images.y[part])
        for part in (slice(TRAINING), slice(TRAINING, TRAINING + VALIDATION))
    )
    fitted, _ = fit(
        model=build_model(name="small_cnn", size=SIZE, dropout=0.2),
        train=train,
        validation=validation,
        settings=SETTINGS,
        exclusive=False,
        augmentation=AUGMENTATION,
        features=folder,
        checkpoints=folder,
        on_epoch=lambda row: None,
    )
    return fitted


def test_maps_of_a_trained_network_point_into_the_boxes_and_those_of_shuffled_weights_do_not(model, images):
    rows = [
        (str(name), box.finding, box.x, box.y, box.x + box.width, box.y + box.height)
        for name, image in enumerate(images.phantoms)
        for box in image.boxes
    ]
    boxes = pd.DataFrame(rows, columns=["sha256", "class", *SIDES])
    boxes[list(SIDES)] /= SIZE
    names = [str(name) for name in np.flatnonzero(images.y[:, 0]) if name >= TRAINING + VALIDATION]
    explained = pd.DataFrame({"sha256": names, "class": "Effusion", "output": 0, "group": names})

    found = explain_images(model, images, explained, boxes, confidence=0.95, seed=0)

    effusion, randomised = found["localisation"]["Effusion"], found["randomised"]
    assert effusion["n_images"] > 80
    assert effusion["pointing_game"]["value"] > 0.9
    assert effusion["pointing_game"]["low"] > effusion["pointing_game_centred"]["high"]
    assert effusion["heat_in_box"]["low"] > effusion["heat_in_box_centred"]["high"]
    assert effusion["heat_in_box"]["value"] > 2 * effusion["box_area"]["value"]
    assert randomised["n_shuffles"] == 5
    assert randomised["pointing_game"]["high"] < effusion["pointing_game"]["low"]
    assert randomised["pointing_game"]["value"] < 2 * effusion["pointing_game_random"]["value"]
    assert abs(randomised["rank_correlation"]["value"]) < 0.3
