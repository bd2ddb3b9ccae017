"""Parameters of the task and of the sources of images and labels."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from cxr_pipeline.data.images.dicom import BODY_PARTS, MODALITIES
from cxr_pipeline.data.images.reader import Reader
from cxr_pipeline.data.sources import LAYOUTS, Listing
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.evaluation.classification_report import MACRO
from cxr_pipeline.evaluation.decision_rule import NONE
from cxr_pipeline.framework.config.parameters import ClassName, Fraction, Name, Parameters, Seed, without_nulls


class Folders(Parameters):
    """Folders of the data that all tasks share.

    Args:
        raw: folder that the paths of sources are relative to.
        data: folder of everything that is written.
        unpacked: images of sources that have them all in one file.
        content_hashes: hashes of the images of each source.
        images: prepared images.
        features: activations of frozen backbones.
        checkpoints: checkpoints from which training resumes.
        outputs: predictions of models.
        patient_key: file of the key for the pseudonyms of patients in MLflow.
    """

    raw: Path
    data: Path
    unpacked: Path
    content_hashes: Path
    images: Path
    features: Path
    checkpoints: Path
    outputs: Path
    patient_key: Path


class Task(Parameters):
    """What is predicted for an image.

    Args:
        kind: ``binary``: the last class or not; ``multiclass``: one of the classes; ``multilabel``: any number of them.
        classes: labels of each class; ``*`` for every other label that a source is known to use. A class set to null is
            switched off.
        left_out: labels whose images the task leaves out.
        uncertain: meaning of labels that a source marks as uncertain.
    """

    name: Name
    title: str
    kind: Literal["binary", "multiclass", "multilabel"]
    classes: dict[ClassName, tuple[str, ...]]
    left_out: tuple[str, ...] = ()
    uncertain: Literal["unknown", "positive", "negative"] = "unknown"

    @property
    def outputs(self) -> tuple[str, ...]:
        """Classes with a score: for a binary task the positive one only."""
        return tuple(self.classes)[-1:] if self.kind == "binary" else tuple(self.classes)

    @property
    def exclusive(self) -> bool:
        """Whether the scores of an image sum to 1."""
        return self.kind == "multiclass"

    @property
    def single_label(self) -> bool:
        """Whether an image has exactly one class."""
        return self.kind != "multilabel"

    @property
    def labels(self) -> LabelMap:
        """Meaning of the labels of the sources for this task."""
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
            raise ValueError(f"the class name {taken.pop()!r} is reserved; choose another name")
        return self


class SourceParameters(Parameters):
    """Parameters of every source.

    Args:
        path: folder of its images, or file if the layout has all images in one; absolute or relative to ``raw``.
    """

    layout: str
    path: str

    @property
    def options(self) -> dict[str, object]:
        """Options of the layout."""
        return self.model_dump(exclude={"layout", "path"})

    def list_images(self, folders: Folders) -> Listing:
        """List the images without reading them."""
        return LAYOUTS[self.layout].read(folders.raw / self.path, **self.options)

    def reader(self, folders: Folders) -> Reader:
        """Return the reader of the images."""
        return LAYOUTS[self.layout].reader(folders.raw / self.path, unpacked=folders.unpacked, **self.options)


class ClassFolders(SourceParameters):
    """Images in a folder per class, with or without ``train/``, ``val/``, ``test/`` above the classes.

    Args:
        patient_id: regular expression on the file name, whose first matching group is the patient, or ``none`` if
            patients are unknown.
        given_splits: splits of folders above the classes whose name does not say it.
        patients_within_split: patient numbers start again in each of these folders.
    """

    layout: Literal["class_folders"]
    patient_id: str = "none"
    given_splits: dict[str, Literal["train", "validation", "test"]] = Field(default_factory=dict)
    patients_within_split: bool = False


class Nih(SourceParameters):
    """A release of NIH ChestX-ray14: label table, ``images*/``, official lists and boxes if present."""

    layout: Literal["nih"]


class Columns(Parameters):
    """Names of the columns of a label table; null for columns that the table does not have.

    Args:
        image: path of the image below the source's folder, or its file name; for DICOM also its SOP instance UID.
        labels: labels of the image, joined by ``separator``.
        one_hot: columns named by a label, with 1, 0, -1 (uncertain) or an empty cell.
        blank: meaning of an empty cell in a column of ``one_hot``.
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
        blank: meaning of an observation that a report does not mention.
        frontal_only: leave lateral images out.
    """

    layout: Literal["chexpert"]
    blank: Literal["negative", "unknown"] = "negative"
    frontal_only: bool = True


class Medmnist(SourceParameters):
    """A 2D data set of MedMNIST, with its own splits.

    Args:
        path: the ``.npz`` file.
        labels: names of the labels in the order of their numbers; the numbers themselves if empty.
    """

    layout: Literal["medmnist"]
    labels: tuple[str, ...] = ()


class PixelTable(SourceParameters):
    """A CSV table with a label and n x n pixel columns in each row.

    Args:
        path: the ``.csv`` or ``.csv.gz`` file.
        label: column of the label.
        labels: names of the labels in the order of their numbers; the column's own text if empty.
        patient_id: column of the patient.
    """

    layout: Literal["pixel_table"]
    label: str = "label"
    labels: tuple[str, ...] = ()
    patient_id: str | None = None


class DicomFolder(SourceParameters):
    """DICOM images below a folder, labels in a table.

    Args:
        table: the label table's file, relative to ``path``.
        modalities: accepted modalities.
        body_parts: accepted body parts; an image without one is accepted too.
    """

    layout: Literal["dicom_folder"]
    table: str
    columns: Columns
    modalities: tuple[str, ...] = MODALITIES
    body_parts: tuple[str, ...] = BODY_PARTS


class Phantoms(SourceParameters):
    """Generated images, written below ``path`` in the form of an NIH release.

    Args:
        n_patients: number of patients; each has one to four images.
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
    """Sources by name. A source set to null is switched off."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root", mode="before")
    @classmethod
    def _drop_switched_off(cls, sources: object) -> object:
        return without_nulls(sources)

    @model_validator(mode="after")
    def _at_least_one(self) -> "Sources":
        if not self.root:
            raise ValueError("expected at least one source, found none")
        return self

    @property
    def phantom(self) -> bool:
        """Whether any image is generated."""
        return any(source.layout == "phantoms" for source in self.root.values())

    def readers(self, folders: Folders) -> dict[str, Reader]:
        """Return the reader of each source."""
        return {name: source.reader(folders) for name, source in self.root.items()}


class Ingestion(Parameters):
    """Limit on the fraction of images that may be refused; the run stops above it."""

    max_quarantined_fraction: Fraction
