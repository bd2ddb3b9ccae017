"""The champion on the test images of a challenger."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import ImageStore, PreparedImages
from cxr_pipeline.evaluation.score_tables import decide, score_table

if TYPE_CHECKING:
    from cxr_pipeline.data.images.reader import Reader
    from cxr_pipeline.deployment.classifier import ImageClassifier


def judge_images(
    classifier: "ImageClassifier",
    images: pd.DataFrame,
    readers: Mapping[str, "Reader"],
    *,
    outputs: Sequence[str],
    folder: Path,
    workers: int | None,
) -> pd.DataFrame:
    """Let a version judge images with its own recipe and its own frozen rule.

    Args:
        classifier: the version.
        images: rows of the manifest.
        readers: for each source what reads its images.
        outputs: of the task, in the manifest's names.
        folder: of the image stores; what is prepared there already is not decoded again.
        workers: processes that decode; None for one a core.

    Returns:
        a decided score table, without the images that its recipe refuses.
    """
    from cxr_pipeline.training.fitting import predict

    recipe = classifier.recipe
    resized = Recipe(size=recipe.size, mode=recipe.mode, max_megapixels=recipe.max_megapixels)
    places = zip(images["source"].map(readers), images["path"], strict=True)
    store = ImageStore(folder, resized)
    refused = store.fill(dict(zip(images["sha256"], places, strict=True)), workers=workers)
    usable = images[~images["sha256"].isin(refused["sha256"])].reset_index(drop=True)
    contents = usable["sha256"].tolist()
    prepared = PreparedImages(folder, resized).enhanced(contents, recipe.steps, workers=workers)
    y_score = predict(classifier.model, prepared, contents)
    return decide(score_table(usable, outputs, y_score), classifier.decision_rule)
