"""Every parameter of a task, as frozen models.

Kedro builds them from ``conf/*/parameters`` before any node runs, because the nodes name them in their
signatures: a misspelt key or an impossible value stops the run at once and names itself.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    field_validator,
    model_validator,
)

TASKS = ("effusion",)

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class Parameters(BaseModel):
    """A block of parameters: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Folders(Parameters):
    """Where films lie, and where what is shared by all tasks is kept.

    Args:
        raw: the folder that the paths of sources start from.
        images: prepared films. features: activations of frozen backbones. checkpoints: unfinished trainings.
    """

    raw: Path
    images: Path
    features: Path
    checkpoints: Path


class Task(Parameters):
    """What is asked of a film.

    Args:
        classes: for each class, the labels of the sources that mean it. In a binary task the last class
            is the positive one, whose probability the model gives.
    """

    name: Name
    title: str
    kind: Literal["binary"]
    classes: dict[Name, tuple[str, ...]]

    @property
    def positive(self) -> str:
        """The class whose probability a binary model gives."""
        return list(self.classes)[-1]

    @model_validator(mode="after")
    def _two_classes(self) -> "Task":
        if self.kind == "binary" and len(self.classes) != 2:
            raise ValueError(f"a binary task has two classes, found {len(self.classes)}: {', '.join(self.classes)}")
        return self


class ClassFolders(Parameters):
    """Films in a folder per class, with or without ``train/``, ``val/``, ``test/`` above the classes.

    Args:
        path: the folder, absolute or relative to ``raw``.
        patient_id: regular expression on the file name, whose first matching group is the patient; or
            ``none`` where the source does not say whose film it is.
    """

    layout: Literal["class_folders"]
    path: str
    patient_id: str = "none"


class Nih(Parameters):
    """A release of NIH ChestX-ray14: label table, ``images*/``, official lists and boxes if present."""

    layout: Literal["nih"]
    path: str


class Phantoms(Parameters):
    """Drawn films, written once below ``path`` in the form of an NIH release.

    Args:
        n_patients: patients to draw; each has one to four films.
        size: side of a film in pixels.
        prevalence: for each finding, the fraction of films that show it.
    """

    layout: Literal["phantoms"]
    path: str
    n_patients: Annotated[int, Field(ge=3)]
    size: Annotated[int, Field(ge=32, le=4096)] = 256
    prevalence: dict[str, Fraction] = {"Effusion": 0.4}
    seed: Seed = 0


Source = Annotated[ClassFolders | Nih | Phantoms, Field(discriminator="layout")]


class Sources(RootModel[dict[Name, Source]]):
    """Name to source. A source set to null is switched off."""

    model_config = ConfigDict(frozen=True)

    @field_validator("root", mode="before")
    @classmethod
    def _drop_switched_off(cls, sources: object) -> object:
        if not isinstance(sources, dict):
            return sources
        return {name: source for name, source in sources.items() if source is not None}

    @model_validator(mode="after")
    def _at_least_one(self) -> "Sources":
        if not self.root:
            raise ValueError("at least one source is needed, found none")
        return self

    @property
    def phantom(self) -> bool:
        """Whether any film is drawn rather than taken."""
        return any(source.layout == "phantoms" for source in self.root.values())


class Ingestion(Parameters):
    """How much of a source may be unusable before the run stops."""

    max_quarantined_fraction: Fraction


class Resolution(Parameters):
    """From any film to one square size and one grey channel.

    Args:
        size: side of the prepared film in pixels.
        mode: ``fit`` keeps the aspect and pads with black, ``stretch`` does not.
        max_megapixels: a larger film is refused before it is decoded.
        workers: processes that decode; null for one a core.
    """

    size: Annotated[int, Field(ge=16, le=2048)]
    mode: Literal["fit", "stretch"]
    max_megapixels: Annotated[float, Field(gt=0)]
    workers: Annotated[int, Field(ge=1)] | None = None


class StructuringStep(Parameters):
    """A grey-scale morphological operation with a structuring element."""

    operation: Literal["top_hat", "black_hat", "opening", "closing", "gradient", "contrast"]
    shape: Literal["ellipse", "rectangle", "cross"] = "ellipse"
    size: Annotated[int, Field(ge=2, le=255)]


class Clahe(Parameters):
    """Contrast-limited adaptive histogram equalisation."""

    operation: Literal["clahe"]
    clip_limit: Annotated[float, Field(gt=0)] = 2.0
    tiles: Annotated[int, Field(ge=1, le=64)] = 8


class Denoise(Parameters):
    """A median filter over a square of odd side."""

    operation: Literal["denoise"]
    size: Annotated[int, Field(ge=3, le=31)]

    @field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"a median filter has an odd size, found {size}")
        return size


class Morphology(Parameters):
    """Steps that are run in order on every prepared film; an empty list costs nothing."""

    steps: tuple[Annotated[StructuringStep | Clahe | Denoise, Field(discriminator="operation")], ...]


class Splitting(Parameters):
    """Shares of the patients, and the seed that deals them."""

    train: Fraction
    validation: Fraction
    test: Fraction
    seed: Seed
    ignore_given_split: bool = False

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
    """Which training films are shown how often, and how much each one weighs."""

    plan: Literal["none", "oversample", "undersample"]
    class_weights: bool
    seed: Seed


class Augmentation(Parameters):
    """Random changes of a training film; zero switches one off.

    Args:
        rotation: largest angle in degrees.
        translation: largest shift as a fraction of the side.
        zoom: largest change of scale as a fraction.
        brightness, contrast: largest change as a fraction of the grey range, of the contrast.
        noise: standard deviation as a fraction of the grey range.
        flip: mirror left and right; off, because the heart is on the left.
        views: augmented views of each training film whose features a frozen backbone caches.
    """

    rotation: Annotated[float, Field(ge=0, le=180)]
    translation: Annotated[float, Field(ge=0, lt=1)]
    zoom: Annotated[float, Field(ge=0, lt=1)]
    brightness: Fraction
    contrast: Fraction
    noise: Fraction
    flip: bool
    views: Annotated[int, Field(ge=0, le=100)]
    seed: Seed


class Model(Parameters):
    """The network.

    Args:
        name: ``small_cnn``, ``cnn`` or a backbone.
        weights: ``none``, ``imagenet``, or the path of a ``.weights.h5`` file; ``imagenet`` is looked
            for in ``<raw>/weights/``, in Keras' cache, and then downloaded.
        head_units: units of the dense layer between the pooled features and the output; 0 for none.
        dropout: fraction of the pooled features dropped in training.
    """

    name: Literal["small_cnn", "cnn", "densenet121"]
    weights: str
    head_units: Annotated[int, Field(ge=0, le=4096)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class FineTuning(Parameters):
    """The second phase of a pretrained backbone: its top, trained from activations cached at ``cut``.

    Args:
        cut: layer of the backbone below which nothing is trained.
        epochs: 0 switches the phase off.
    """

    cut: str
    epochs: Annotated[int, Field(ge=0)]
    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Annotated[int, Field(ge=1)]


class Training(Parameters):
    """How the network is fitted.

    Args:
        monitor: the validation metric that chooses the epoch.
        patience: epochs without a better one before training stops; null for never.
        mixed_bfloat16: compute in bfloat16, keep the weights in float32.
    """

    loss: Literal["bce", "weighted_bce", "focal"]
    optimizer: Literal["adam", "adamw", "adamax", "sgd", "rmsprop"]
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Literal["constant", "cosine"]
    weight_decay: Annotated[float, Field(ge=0)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    monitor: Literal["val_auc", "val_average_precision", "val_accuracy", "val_recall", "val_loss"]
    patience: Annotated[int, Field(ge=1)] | None
    mixed_bfloat16: bool
    seed: Seed
    fine_tuning: FineTuning


class Fixed(Parameters):
    """The threshold itself."""

    rule: Literal["fixed"]
    value: Fraction


class Youden(Parameters):
    """The largest sum of sensitivity and specificity."""

    rule: Literal["youden"]


class TargetSensitivity(Parameters):
    """The best specificity among the thresholds that reach this sensitivity."""

    rule: Literal["target_sensitivity"]
    value: Fraction


class TargetSpecificity(Parameters):
    """The best sensitivity among the thresholds that reach this specificity."""

    rule: Literal["target_specificity"]
    value: Fraction


class FBeta(Parameters):
    """The largest F-beta."""

    rule: Literal["f_beta"]
    beta: Annotated[float, Field(gt=0)]


class Cost(Parameters):
    """The smallest cost of mistakes."""

    rule: Literal["cost"]
    false_negative: Annotated[float, Field(gt=0)]
    false_positive: Annotated[float, Field(gt=0)]


Policy = Annotated[
    Fixed | Youden | TargetSensitivity | TargetSpecificity | FBeta | Cost,
    Field(discriminator="rule"),
]


class Thresholds(Parameters):
    """Calibration and threshold, both fitted on validation films."""

    calibration: Literal["none", "temperature", "platt", "isotonic"]
    policy: Policy


class Evaluation(Parameters):
    """The bootstrap behind every interval."""

    replicates: Annotated[int, Field(ge=100, le=100_000)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Seed


class Scoring(Parameters):
    """Which films are scored, and by what.

    Args:
        folder: every film below it is scored.
        model: an MLflow model URI; null for the newest registered version of the task.
    """

    folder: str | None
    model: str | None
    batch_size: Annotated[int, Field(ge=1)]
