"""Titles and explanations of the figures, by name."""

from base64 import b64encode
from collections.abc import Mapping

HEATMAPS = "heatmaps"
# Figures of the training; all others but the heat maps are on performance.
TRAINING = ("training_curves", "class_samples", "augmentation_preview")
# Title and explanation of the curves of an output; those of several outputs are called ``class_<name>``.
CURVES = {
    "roc": ("ROC curve", "All thresholds; the upper left corner is ideal, the point is the decision rule."),
    "precision_recall": (
        "Precision-recall curve",
        "All thresholds; the upper right corner is ideal, the point is the decision rule, the dotted line is chance.",
    ),
    "reliability": (
        "Calibration",
        "On the dotted line, 30 % of the images with a probability of 30 % are positive. Bars are 95 % intervals.",
    ),
}
# Title, explanation, and the shape of the picture on the page. Pages show figures in this order.
CAPTIONS = {
    "class_auc": ("AUC by class", "With intervals; n is the number of positive test images.", "dense"),
    **{name: (*caption, "") for name, caption in CURVES.items()},
    **{f"class_{name}": (f"{title} by class", text, "dense") for name, (title, text) in CURVES.items()},
    "score_histogram": ("Probabilities by class", "The less they overlap, the better the classes are separated.", ""),
    "confusion": ("Confusion matrix", "Test images by true and predicted class, with the share of the row.", ""),
    "confusion_matrix": (
        "Confusion matrix",
        "Test images by true and predicted class, with the share of the row; the diagonal is correct.",
        "dense",
    ),
    "training_curves": ("Training", "A validation loss that rises while the training loss falls is overfitting.", ""),
    "mistakes": ("Most confident errors", "Misclassified test images, with their probability.", "wide"),
    "class_samples": ("Example of each class", "Training images as the network receives them.", "wide"),
    HEATMAPS: (
        "Heat maps",
        "The most confident true and false positives and negatives of the test images, with annotated boxes.",
        "dense",
    ),
    "augmentation_preview": ("Augmentation", "Training images and their augmented views.", "wide"),
    "tuning_history": ("Search history", "Trials in the order in which they started, and the best so far.", ""),
    "tuning_importance": (
        "Parameter importance",
        "Share of the variance between trials explained by a parameter, alone or in interactions (fANOVA).",
        "",
    ),
    "tuning_slices": ("Value by parameter", "Complete trials, later ones darker; the best is circled.", "dense"),
    "ablation": (
        "Metrics by cell",
        "With intervals; the dashed line is the baseline, hollow orange points are collapsed cells.",
        "dense",
    ),
    "drift_effects": (
        "Effect sizes",
        "Each point is a test, filled if significant after correction. To the right of the line it counts as drift; to "
        "the right of the tick, the images are refused.",
        "dense",
    ),
    "drift_distributions": (
        "Distributions",
        "Grey: reference images. Line: new images, orange if drifted. Features: scores of the domain classifier.",
        "dense",
    ),
    "leaderboard": (
        "AUC",
        "With intervals; hollow points are experiment cells, the grey band is the interval of the first model.",
        "dense",
    ),
}


def captioned(figures: Mapping[str, bytes]) -> list[tuple[str, str, str, str]]:
    """Return title, explanation, shape and ``data:`` URL of PNG figures, so that a page loads no files.

    They come in the order of ``CAPTIONS``; ``heatmaps_<class>`` has the caption of ``heatmaps``.
    """
    found = []
    for known, (title, explanation, shape) in CAPTIONS.items():
        for name, png in figures.items():
            output = name.removeprefix(f"{HEATMAPS}_") if known == HEATMAPS else name
            if name == known or output != name:
                uri = "data:image/png;base64," + b64encode(png).decode("ascii")
                found.append((title if name == known else f"{title}: {output}", explanation, shape, uri))
    return found
