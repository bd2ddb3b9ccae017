"""Parameters of the task, its sources, and the preparation, splitting and resampling of images."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import BeforeValidator, ConfigDict, Field, RootModel, model_validator

from cxr_pipeline.data.images.morphology import OPERATIONS
from cxr_pipeline.data.resampling import plan_sampling, rarest_class
from cxr_pipeline.data.sources import LAYOUTS, Listing
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.pseudonyms import hide_patients
from cxr_pipeline.data.sources.readers import Reader
from cxr_pipeline.evaluation.decision_rule import NONE, Kind
from cxr_pipeline.evaluation.evaluate import MACRO
from cxr_pipeline.framework.config.parameters import (
    ClassName,
    Fraction,
    Name,
    Parameters,
    Seed,
    variants,
    without_nulls,
)


class Folders(Parameters):
    """Folders of the data that all tasks share.

    Args:
        raw: folder that the paths of sources are relative to.
        data: folder below which everything is written.
        unpacked: images of sources that store all images in one file.
        content_hashes: hashes of image files, with the size and time of each file.
        images: the image store.
        features: activations of frozen backbones.
        checkpoints: states of training runs, to resume them.
        outputs: predictions.
        patient_key: file of the key for the pseudonyms of patients.
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


def _number_as_text(label: object) -> object:
    return str(label) if isinstance(label, int | float) and not isinstance(label, bool) else label


# In YAML, labels such as 0 and 1 are numbers.
Label = Annotated[str, BeforeValidator(_number_as_text)]


class Task(Parameters):
    """The prediction task; see ``LabelMap`` for labels.

    Args:
        name: name of the block; omit it.
        title: title of reports.
        kind: ``binary`` (the last class or not), ``multiclass`` (one of the classes) or ``multilabel`` (any number of
            them).
        classes: labels of each class, in sources of all kinds; null disables a class. ``*`` stands for every other
            label.
        left_out: labels whose images the task excludes.
        uncertain: meaning of labels that a source marks as uncertain.
    """

    name: Name
    title: str
    kind: Kind
    classes: Annotated[dict[ClassName, tuple[Label, ...]], BeforeValidator(without_nulls)]
    left_out: tuple[Label, ...] = ()
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
        return LabelMap(self.classes, self.left_out, self.uncertain, exclusive=self.single_label, task=self.name)

    @model_validator(mode="after")
    def _classes_fit_the_kind(self) -> "Task":
        n = len(self.classes)
        fits, expected = {
            "binary": (n == 2, "two classes"),
            "multiclass": (n >= 3, "three classes or more"),
            "multilabel": (n >= 1, "one class or more"),
        }[self.kind]
        if not fits:
            raise ValueError(f"a {self.kind} task has {expected}, found {n}: {', '.join(self.classes) or 'none'}")
        taken = {MACRO, NONE} & set(self.classes)
        if taken:
            raise ValueError(f"the class name {taken.pop()!r} is reserved; choose another name")
        return self


class SourceParameters(Parameters):
    """Parameters of every source. Each layout adds the options of its ``read``.

    ``path`` is the folder of its images, or the file if the layout has all images in one; absolute or relative to
    ``raw``.
    """

    layout: str
    path: str

    @property
    def options(self) -> dict[str, Any]:
        """Options of the layout."""
        return {name: getattr(self, name) for name in type(self).model_fields.keys() - {"layout", "path"}}

    def list_images(self, folders: Folders) -> Listing:
        """List the images without reading them."""
        layout = LAYOUTS[self.layout]
        listing = layout.read(folders.raw / self.path, **self.options)
        return hide_patients(listing, folders.patient_key) if layout.has_patient_records else listing

    def reader(self, folders: Folders) -> Reader:
        """Return the reader of the images."""
        return LAYOUTS[self.layout].reader(folders.raw / self.path, unpacked=folders.unpacked, **self.options)


_READ = {name: layout.read for name, layout in LAYOUTS.items()}
Source = Annotated[SourceParameters, variants(SourceParameters, "layout", _READ)]


class Sources(RootModel[Annotated[dict[Name, Source], BeforeValidator(without_nulls)]]):
    """Sources by name. A source set to null is disabled."""

    model_config = ConfigDict(frozen=True)

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
    """Limit on refused images.

    Args:
        max_quarantined_fraction: fraction of images that may be refused; the run stops above it.
    """

    max_quarantined_fraction: Fraction


class Resolution(Parameters):
    """Conversion of any image to one square size and one grey channel.

    Args:
        size (pixels): side of the prepared image; backbones need at least 32, ``inceptionv3`` 75.
        mode: ``fit`` keeps the aspect ratio and pads with black, ``stretch`` does not.
        max_megapixels (megapixels): a larger image is refused before it is decoded; the limit is lower with pixels of
            more than four bytes. With 100, an image takes at most 2 GiB and 10 s.
        workers: number of decoding processes; null for one per core.
    """

    size: Annotated[int, Field(ge=16, le=2048)]
    mode: Literal["fit", "stretch"]
    max_megapixels: Annotated[float, Field(gt=0)]
    workers: Annotated[int, Field(ge=1)] | None = None


class MorphologyStep(Parameters):
    """A function of ``data.images.morphology`` and its arguments."""

    operation: str


Step = Annotated[MorphologyStep, variants(MorphologyStep, "operation", OPERATIONS)]


class Morphology(Parameters):
    """Operations applied in order to every prepared image.

    Args:
        steps: each with an ``operation`` and its arguments, such as ``{operation: clahe, tiles: 8}``.
    """

    steps: tuple[Step, ...]


class Splitting(Parameters):
    """Assignment of patients to splits; see `assign_splits`.

    Args:
        train, validation, test: share of the patients; the three sum to 1.
        seed: seed of the assignment of new patients.
        ignore_given_split: assign images also if their source gives their split.
        renew: assign all images again, for one run; the earlier splits are kept in the folder ``former_splits``.
    """

    train: Fraction
    validation: Fraction
    test: Fraction
    seed: Seed
    ignore_given_split: bool = False
    renew: bool = False

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Splitting":
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6 or min(self.train, self.validation, self.test) <= 0:
            raise ValueError(
                "train, validation and test must each be above 0 and sum to 1, "
                f"found {self.train} + {self.validation} + {self.test} = {total:g}"
            )
        return self


class Resampling(Parameters):
    """Sampling plan of the training images, see `plan_sampling`.

    Args:
        plan: ``oversample`` repeats images until all classes are as frequent as the most frequent one; ``undersample``
            omits images until all are as rare as the rarest.
        class_weights: weight the loss so that all classes have the same total weight.
        max_repeat: maximum number of times that an image is shown in an epoch; null for no limit.
        within_sources: balance the classes within each source.
        seed: seed of the choice of repeated or omitted images.
    """

    plan: Literal["none", "oversample", "undersample"]
    class_weights: bool
    max_repeat: Annotated[int, Field(ge=1)] | None = None
    within_sources: bool = False
    seed: Seed

    def plan_epoch(self, images: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Plan an epoch of rows of the manifest, balanced by the rarest class of each."""
        classes = rarest_class(images[[f"label_{name}" for name in task.classes]])
        return plan_sampling(images.assign(y=classes), **self.model_dump())
