"""Where images and labels come from, and what is asked of them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES
from cxr_pipeline.data.images.reader import Reader
from cxr_pipeline.data.sources import open_source
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.evaluation.classification_report import MACRO
from cxr_pipeline.evaluation.decision_rule.independent_outputs import NONE
from cxr_pipeline.framework.config.parameters import ClassName, Fraction, Name, Parameters, Seed, without_nulls


class Folders(Parameters):
    """Where images lie, and where what is shared by all tasks is kept.

    Args:
        raw: the folder that the paths of sources start from.
        data: all that is written lies below it.
        unpacked: images of sources that keep them all in one file.
        images: prepared images. features: activations of frozen backbones. checkpoints: trainings to go on from.
        outputs: what models say of images.
        patient_key: the file with the key that patients are hashed with, where they are put on record.
    """

    raw: Path
    data: Path
    unpacked: Path
    images: Path
    features: Path
    checkpoints: Path
    outputs: Path
    patient_key: Path


class Task(Parameters):
    """What is asked of an image.

    Args:
        kind: ``binary``: the last class or not; ``multiclass``: one of the classes; ``multilabel``: any number
            of them at once.
        classes: for each class, the labels of the sources that mean it; ``*`` for every other label that a
            source is known to use. A class set to null is switched off.
        left_out: labels whose images the task leaves out.
        uncertain: what a label means that a source calls uncertain.
    """

    name: Name
    title: str
    kind: Literal["binary", "multiclass", "multilabel"]
    classes: dict[ClassName, tuple[str, ...]]
    left_out: tuple[str, ...] = ()
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes that a model gives a score for: of a binary task the positive one."""
        return tuple(self.classes)[-1:] if self.kind == "binary" else tuple(self.classes)

    @property
    def exclusive(self) -> bool:
        """Whether the scores of an image sum to one."""
        return self.kind == "multiclass"

    @property
    def single_label(self) -> bool:
        """Whether an image has one class and no more."""
        return self.kind != "multilabel"

    @property
    def labels(self) -> LabelMap:
        """What the labels of the sources mean to this task."""
        return LabelMap(self.classes, self.left_out, self.uncertain, exclusive=self.single_label)

    @field_validator("classes", mode="before")
    @classmethod
    def _drop_switched_off(cls, classes: object) -> object:
        return without_nulls(classes)

    @model_validator(mode="after")
    def _number_of_classes(self) -> "Task":
        n, found = len(self.classes), ", ".join(self.classes) or "none"
        if self.kind == "binary" and n != 2:
            raise ValueError(f"a binary task has two classes, found {n}: {found}")
        if self.kind == "multiclass" and n < 3:
            raise ValueError(f"a multiclass task has three classes or more, found {n}: {found}")
        if n < 1:
            raise ValueError("a task has classes, found none")
        return self

    @model_validator(mode="after")
    def _names_of_classes(self) -> "Task":
        taken = {MACRO, NONE} & set(self.classes)
        if taken:
            raise ValueError(f"{taken.pop()!r} has a meaning in the results; call the class otherwise")
        return self


class SourceParameters(Parameters):
    """What every source has in common.

    Args:
        path: where its images are, absolute or relative to ``raw``.
    """

    layout: str
    path: str

    @property
    def options(self) -> dict[str, object]:
        """What the layout wants besides the path."""
        return self.model_dump(exclude={"layout", "path"})


class ClassFolders(SourceParameters):
    """Images in a folder per class, with or without ``train/``, ``val/``, ``test/`` above the classes.

    Args:
        patient_id: regular expression on the file name, whose first matching group is the patient; or
            ``none`` where the source does not say whose image it is.
        given_splits: what folders above the classes mean, where that is not what their name says.
        patients_within_split: the numbers of the patients start anew in each of these folders.
    """

    layout: Literal["class_folders"]
    patient_id: str = "none"
    given_splits: dict[str, Literal["train", "validation", "test"]] = Field(default_factory=dict)
    patients_within_split: bool = False


class Nih(SourceParameters):
    """A release of NIH ChestX-ray14: label table, ``images*/``, official lists and boxes if present."""

    layout: Literal["nih"]


class Columns(Parameters):
    """Which column of a label table says what; a column that is null is not there.

    Args:
        image: names the image: a path below the source's folder or a file name; for DICOM perhaps the SOP instance UID.
        labels: holds the labels of an image, joined by ``separator``.
        one_hot: columns that are named by a label and hold 1, 0, -1 (uncertain) or nothing.
        blank: what nothing means in a column of ``one_hot``.
    """

    image: str
    labels: str | None = None
    separator: Annotated[str, Field(min_length=1)] = "|"
    one_hot: tuple[str, ...] = ()
    blank: Literal["negative", "unknown"] = "unknown"
    patient_id: str | None = None
    view: str | None = None
    age: str | None = None
    sex: str | None = None
    split: str | None = None

    @model_validator(mode="after")
    def _labels_somewhere(self) -> "Columns":
        if (self.labels is None) == (not self.one_hot):
            raise ValueError("expected either labels (one column) or one_hot (a column for each label)")
        return self


class LabelTable(SourceParameters):
    """Images in a folder, labels in a CSV or Parquet table.

    Args:
        table: the table's file, relative to ``path``.
    """

    layout: Literal["label_table"]
    table: str
    columns: Columns


class Chexpert(SourceParameters):
    """A release of CheXpert: ``train.csv`` and ``valid.csv`` with ``Path`` and 14 labels.

    Args:
        blank: what an observation means that a report does not mention.
        frontal_only: leave lateral images out.
    """

    layout: Literal["chexpert"]
    blank: Literal["negative", "unknown"] = "negative"
    frontal_only: bool = True


class Medmnist(SourceParameters):
    """A 2D data set of MedMNIST, whose splits are kept.

    Args:
        path: the ``.npz`` file.
        labels: names of the labels in the order of their numbers; the numbers themselves where there are none.
    """

    layout: Literal["medmnist"]
    labels: tuple[str, ...] = ()


class PixelTable(SourceParameters):
    """A CSV table with a label and n x n pixel columns in each row.

    Args:
        path: the ``.csv`` or ``.csv.gz`` file.
        label: the column of the label.
        labels: names of the labels in the order of their numbers; the column's own text where there are none.
        patient_id: the column of the patient.
    """

    layout: Literal["pixel_table"]
    label: str = "label"
    labels: tuple[str, ...] = ()
    patient_id: str | None = None


class DicomFolder(SourceParameters):
    """DICOM images below a folder, labels in a table.

    Args:
        table: the label table's file, relative to ``path``.
        modalities: the modalities that are taken.
        body_parts: the body parts that are taken; an image that names none is taken too.
    """

    layout: Literal["dicom_folder"]
    table: str
    columns: Columns
    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS


class Phantoms(SourceParameters):
    """Drawn images, written once below ``path`` in the form of an NIH release.

    Args:
        n_patients: patients to draw; each has one to four images.
        size: side of an image in pixels.
        prevalence: for each finding, the fraction of images that show it.
    """

    layout: Literal["phantoms"]
    n_patients: Annotated[int, Field(ge=3)]
    size: Annotated[int, Field(ge=32, le=4096)] = 256
    prevalence: dict[str, Fraction]
    seed: Seed = 0


Source = Annotated[
    ClassFolders | Nih | Chexpert | LabelTable | Medmnist | PixelTable | DicomFolder | Phantoms,
    Field(discriminator="layout"),
]


class Sources(RootModel[dict[Name, Source]]):
    """Name to source. A source set to null is switched off."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root", mode="before")
    @classmethod
    def _drop_switched_off(cls, sources: object) -> object:
        return without_nulls(sources)

    @model_validator(mode="after")
    def _at_least_one(self) -> "Sources":
        if not self.root:
            raise ValueError("at least one source is needed, found none")
        return self

    @property
    def phantom(self) -> bool:
        """Whether any image is drawn rather than taken."""
        return any(source.layout == "phantoms" for source in self.root.values())

    def readers(self, folders: Folders) -> dict[str, Reader]:
        """What reads the images of each source."""
        return {
            name: open_source(source.layout, folders.raw / source.path, unpacked=folders.unpacked, **source.options)
            for name, source in self.root.items()
        }


class Ingestion(Parameters):
    """How much of a source may be unusable before the run stops."""

    max_quarantined_fraction: Fraction
