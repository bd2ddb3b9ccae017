"""Two sides of a comparison: what a challenger's training left in its folder, the champion on the same test films."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from cxr_pipeline.images.recipe import Recipe
from cxr_pipeline.images.store import ImageStore, PreparedFilms
from cxr_pipeline.scores import decide, score_table
from cxr_pipeline.splits import films_of

if TYPE_CHECKING:
    from cxr_pipeline.classifier import FilmClassifier
    from cxr_pipeline.sources.readers import Reader


@dataclass(frozen=True)
class Outputs:
    """What a run of a task's own pipeline left, as below ``data/``.

    Args:
        folder: of the run.
        task: name of the task.
    """

    folder: Path
    task: str

    @property
    def version(self) -> dict[str, Any]:
        """The registered version: ``name``, ``version``, ``uri``, ``run_id`` and ``digest``."""
        return self._document("06_models/{}/model_version.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of ``metrics.json``."""
        return self._document("08_reporting/{}/metrics.json")

    @property
    def splits(self) -> pd.DataFrame:
        """The split of each film."""
        return pd.read_parquet(self._path("05_model_input/{}/splits.parquet"))

    @property
    def test_scores(self) -> pd.DataFrame:
        """The decided score table of the test films."""
        return pd.read_parquet(self._path("07_model_output/{}/test_scores.parquet"))

    @property
    def test_films(self) -> pd.DataFrame:
        """The rows of the manifest that are test films."""
        return films_of(pd.read_parquet(self._path("03_primary/{}/manifest.parquet")), self.splits, "test")

    def _path(self, place: str) -> Path:
        return self.folder / place.format(self.task)

    def _document(self, place: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path(place).read_text(encoding="utf-8"))
        return found


def judge_films(
    classifier: "FilmClassifier",
    films: pd.DataFrame,
    readers: Mapping[str, "Reader"],
    *,
    outputs: Sequence[str],
    folder: Path,
    workers: int | None,
) -> pd.DataFrame:
    """Let a version judge films with its own recipe and its own frozen rule.

    Args:
        classifier: the version.
        films: rows of the manifest.
        readers: for each source what reads its films.
        outputs: of the task, in the manifest's names.
        folder: of the image stores; what is prepared there already is not decoded again.
        workers: processes that decode; None for one a core.

    Returns:
        a decided score table, without the films that its recipe refuses.
    """
    from cxr_pipeline.training.fitting import predict

    recipe = classifier.recipe
    resized = Recipe(size=recipe.size, mode=recipe.mode, max_megapixels=recipe.max_megapixels)
    places = zip(films["source"].map(readers), films["path"], strict=True)
    store = ImageStore(folder, resized)
    refused = store.fill(dict(zip(films["sha256"], places, strict=True)), workers=workers)
    usable = films[~films["sha256"].isin(refused["sha256"])].reset_index(drop=True)
    contents = usable["sha256"].tolist()
    prepared = PreparedFilms(folder, resized).enhanced(contents, recipe.steps, workers=workers)
    y_score = predict(classifier.model, prepared, contents)
    return decide(score_table(usable, outputs, y_score), classifier.decision_rule)
