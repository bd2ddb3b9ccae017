"""The results of a run that its report and model card show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_pipeline.report.formatting import Document
from cxr_pipeline.report.kinds import Kind, kind_of

HEATMAPS = "heatmaps"
# Figures of the training; all others but the heat maps are on performance.
TRAINING = ("training_curves", "class_samples", "augmentation_preview")
SplitCounts = Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True)
class ReportContent:
    """Everything in the report and the model card of a task; documents are JSON, where null is an undefined number.

    ``data_report`` has the document on confounding as ``confounding``; ``split_counts`` the images of each class, all
    ``images``, ``patients`` and ``effective_patients`` of each split (None where unknown); ``source_counts`` the images
    of each source in each split; ``model`` the ``name``, ``n_parameters`` and ``size`` of the network, ``epochs`` and
    ``phase``, the selected epoch of each member and its phase, and the parameter ``weights``. Of two classes, the
    negative one is first.
    Figures are PNG bytes by name; those called ``heatmaps`` or ``heatmaps_<class>`` go to the section on heat maps. A
    binary task has no classification report, and only exclusive classes have a confusion table.
    """

    version: Document
    task: Document
    warnings: Sequence[str]
    metrics: Document
    decision_rule: Document
    explanations: Document
    subgroups: Document
    data_report: Document
    quarantine: pd.DataFrame
    split_counts: SplitCounts
    source_counts: Mapping[str, Mapping[str, int]]
    sampling_plan: pd.DataFrame
    history: pd.DataFrame
    figures: Mapping[str, bytes]
    parameters: Document
    versions: Mapping[str, str]
    model: Document
    classification_report: pd.DataFrame | None = None
    confusion_table: pd.DataFrame | None = None

    @property
    def kind(self) -> Kind:
        """The wording for the kind of task."""
        return kind_of(self.task)
