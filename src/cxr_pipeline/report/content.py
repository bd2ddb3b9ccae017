"""The results of a run that its report and model card show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_pipeline.report.formatting import Document
from cxr_pipeline.report.kinds import Kind, kind_of

SplitCounts = Mapping[str, Mapping[str, int | None]]


@dataclass(frozen=True)
class ReportContent:
    """Everything in the report and the model card of a task; documents are JSON, where null is an undefined number.

    Args:
        version: the registered version: ``name``, ``version``, ``uri``, ``run_id``, ``digest``, ``git_commit`` and
            ``registered``.
        task: ``name``, ``title``, ``kind`` and ``classes``; of two classes, the negative one is first.
        warnings: sentences.
        data_report: the document, with that on confounding as ``confounding``.
        quarantine: ``source``, ``image``, ``reason`` and ``detail`` of each quarantined image.
        split_counts: for each split, the images of each class, all ``images``, and ``patients`` and
            ``effective_patients`` (None where unknown).
        source_counts: for each source, its images in each split.
        figures: PNG bytes by name; those called ``heatmaps`` or ``heatmaps_<class>`` go to the section on heat maps.
        sampling_plan: ``count`` and ``weight`` of each image of the training split.
        versions: package, or ``git commit``, to version.
        model: ``name``, ``n_parameters``, and ``size``, the side of its input in pixels; ``epoch`` and ``phase`` of the
            selected epoch; ``weights``, the parameter, which applies to a network that was pretrained.
        classification_report: a row for each class; None for a binary task.
        confusion_table: test images by true (rows) and predicted class; None unless classes are exclusive.
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
