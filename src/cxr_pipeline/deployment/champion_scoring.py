"""Score the test images of a challenger with the champion."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.evaluation.score_tables import decide, score_table

if TYPE_CHECKING:
    from cxr_pipeline.data.sources.readers import Reader
    from cxr_pipeline.deployment.classifier import ImageClassifier


def score_images(
    classifier: "ImageClassifier",
    images: pd.DataFrame,
    readers: Mapping[str, "Reader"],
    *,
    outputs: Sequence[str],
    folder: Path,
    workers: int | None,
) -> pd.DataFrame:
    """Score rows of the manifest with a version, using its own recipe and frozen decision rule.

    Images that are prepared in the image stores in ``folder`` are not decoded again.

    Returns:
        A score table with decisions, without the images that the recipe refuses.
    """
    from cxr_pipeline.training.fitting import predict

    recipe = classifier.recipe
    resized = PreparedImages(folder, replace(recipe, steps=()))
    places = zip(images["source"].map(readers), images["path"], strict=True)
    refused = resized.fill(dict(zip(images["sha256"], places, strict=True)), workers=workers)
    usable = images[~images["sha256"].isin(refused["sha256"])].reset_index(drop=True)
    contents = usable["sha256"].tolist()
    prepared = resized.enhanced(contents, recipe.steps, workers=workers)
    y_score = predict(classifier.model, prepared, contents)
    return decide(score_table(usable, outputs, y_score), classifier.decision_rule)
