"""Where films and labels come from, and what is asked of them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, RootModel, field_validator, model_validator

from cxr_pipeline.config.parameters import Fraction, Name, Parameters, Seed


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
    prevalence: dict[str, Fraction]
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
