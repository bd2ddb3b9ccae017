"""What a run of a task's own pipeline left in its folder: a cell's, or a challenger's."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.data.splits import select_split


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
    def history(self) -> pd.DataFrame:
        """The history of the training, a row for each epoch."""
        return pd.read_csv(self._path("08_reporting/{}/history.csv"))

    @property
    def splits(self) -> pd.DataFrame:
        """The split of each image."""
        return pd.read_parquet(self._path("05_model_input/{}/splits.parquet"))

    @property
    def test_scores(self) -> pd.DataFrame:
        """The decided score table of the test images."""
        return pd.read_parquet(self._path("07_model_output/{}/test_scores.parquet"))

    @property
    def test_images(self) -> pd.DataFrame:
        """The rows of the manifest that are test images."""
        return select_split(pd.read_parquet(self._path("03_primary/{}/manifest.parquet")), self.splits, "test")

    def _path(self, place: str) -> Path:
        return self.folder / place.format(self.task)

    def _document(self, place: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._path(place).read_text(encoding="utf-8"))
        return found
