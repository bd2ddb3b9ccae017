"""Phantoms in class folders, with one image per patient, and a network that recognises the ill ones."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from stub_models import fixed_rule

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.phantoms import draw_patient
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.drift.image_features import ImageFeatures, extract_features

SIZE = 32
SOURCE = {"layout": "class_folders", "patient_id": r"^(\d+)_"}


def is_ill(patient: int) -> bool:
    return patient % 3 == 0


def draw(patient: int, *, brighter: int = 0) -> np.ndarray:
    """Draw a phantom; that of an ill patient has a white band of random height at its lower edge."""
    image = next(draw_patient(patient, size=SIZE, prevalence={}, seed=1)).pixels.astype(int)
    if is_ill(patient):
        image[-6 - patient % 5 :] = 250
    return np.clip(image + brighter, 0, 255).astype(np.uint8)


def write(folder: Path, patients: range, *, flipped: bool = False, brighter: int = 0) -> Path:
    """Write images of patients to class folders, with wrong labels if they are flipped."""
    for patient in patients:
        path = folder / ("ill" if is_ill(patient) != flipped else "well") / f"{patient}_0.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), draw(patient, brighter=brighter))
    return folder


def make_classifier() -> ImageClassifier:
    """Make a classifier whose score grows with the brightness of the lowest rows."""
    import keras

    from cxr_pipeline.training.networks.build import OUTPUT, POOLED

    image = keras.Input((SIZE, SIZE, 1))
    rows = keras.layers.AveragePooling2D((2, SIZE))(image)
    grey = keras.layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(1 / 255))(rows)
    pooled = keras.layers.Flatten(name=POOLED)(grey)
    score = keras.layers.Dense(1, "sigmoid", name=OUTPUT)
    network = keras.Model(image, score(pooled))
    weights = np.zeros((SIZE // 2, 1))
    weights[-3:] = 8
    score.set_weights([weights, np.array([-18.0])])
    recipe = Recipe(size=SIZE, mode="fit", max_megapixels=1)
    return ImageClassifier(network, recipe, fixed_rule(("well", "ill")), {"images": "phantom"})


def features_of(classifier: ImageClassifier, patients: range) -> ImageFeatures:
    """Extract the features of the images of patients, with their labels."""
    images = np.stack([draw(patient) for patient in patients])
    labels = np.array([[float(is_ill(patient))] for patient in patients])
    return replace(extract_features(classifier.model, classifier.decision_rule, [images]), y_true=labels)


def simulate(n, seed, *, k=1, d=6, source=""):
    """Draw the features of images from plain distributions, with calibrated probabilities."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(1, 1, (n, k))
    return ImageFeatures(
        rng.normal(100, 10, (n, 11)).astype(np.float32),
        rng.normal(0, 1, (n, d)).astype(np.float32),
        probability,
        (rng.random((n, k)) < probability).astype(float),
        np.full(n, source),
    )


def concatenate(*parts):
    """Join the features of images."""
    return ImageFeatures(*map(np.concatenate, zip(*(vars(part).values() for part in parts), strict=True)))
