"""What ``kedro lineage`` answers, as tables and sentences."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import RenderableType
from rich.text import Text

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.deployment.lineage import PATIENT, content_of, count_by_split, count_patients, images_of_patient
from cxr_pipeline.report.formatting import as_text
from cxr_pipeline.report.pages import lineage as tables
from cxr_pipeline.tracking import promotion_records
from cxr_pipeline.tracking.aliases import ROLLED_BACK
from cxr_pipeline.tracking.lineage import CARD, N_IMAGES, N_PATIENTS, PATIENT_KEY, VersionRecord, settings_of

# What is said of a version about which the question has no answer begins with this.
UNKNOWN = "cannot be told"
NOT_SEEN = "not seen"


def overview_of(versions: Sequence[VersionRecord]) -> RenderableType:
    """All versions of a model, a row for each."""
    rows = [
        {
            **_identity(one),
            "images": one.tags.get(N_IMAGES),
            "patients": one.tags.get(N_PATIENTS),
            "data": tables.short(one.tags.get("data_digest")),
            "commit": tables.short(one.tags.get("git_commit")),
            "decision": _decision(one),
            "AUC": as_text(one.metrics["auc"]) if "auc" in one.metrics else None,
        }
        for one in versions
    ]
    return tables.overview(rows, title=versions[0].name)


def details_of(version: VersionRecord, today: Mapping[str, Any]) -> RenderableType:
    """Everything about one version.

    Args:
        version: its record.
        today: parameters of the task as they are configured now.
    """
    images, settings, tags = _images_of(version), settings_of(version), version.tags
    recipe, rule = settings.get("recipe", {}), settings.get("decision_rule", {})
    classes = sorted(key.removesuffix("/auc") for key in version.metrics if key.endswith("/auc"))
    facts = {
        **_identity(version),
        "aliases": ", ".join(version.aliases) or "none",
        "date": version.date.isoformat(timespec="seconds"),
        "run": version.run_id,
        "images": None if images is None else tables.images_by_split(count_by_split(images)),
        "patients": None if images is None else _patients_by_split(images),
        "list of images": None
        if images is None
        else f"{promotion_records.IMAGES} of the run, or: {_command(version)} --images FILE",
        "data digest": tags.get("data_digest"),
        "test digest": tags.get("test_digest"),
        "model digest": tags.get("digest"),
        "git commit": tags.get("git_commit"),
        "recipe": {name: str(value) for name, value in recipe.items()},
        "decision rule": tables.rule(rule),
        "measured on": _measured_on(version.metrics),
        "figures": tables.measures(version.metrics),
        **{f"figures of {name}": tables.measures(version.metrics, f"{name}/") for name in classes if len(classes) > 1},
        "parameters": f"{len(version.parameters)} in the run" if version.parameters else None,
        "other than today": tables.differing(version.parameters, flatten(today)) or "none",
        "decision": _decision(version) or "none is on record",
        "reasons": tags.get(promotion_records.REASONS) or "none",
        "decided by run": tags.get(promotion_records.DECIDED_IN) or "none",
        "model card": f"{CARD} of the run" if version.run_id else None,
    }
    return tables.details(facts, title=f"{version.name} {version.number}")


def write_images(version: VersionRecord, file: Path) -> RenderableType:
    """Write the images of a version as CSV.

    Raises:
        UserError: they are not on record, or the file cannot be written.
    """
    images = _images_of(version)
    if images is None:
        raise UserError(f"The images of {version.name} {version.number} are not on record: {_why_no_images(version)}.")
    try:
        images.to_csv(file, index=False)
    except OSError as error:
        raise UserError(f"{file} cannot be written ({error.strerror or error}); name another file.") from error
    return Text(f"{len(images):,} images of {version.name} {version.number} are in {file}.")


def who_saw_image(versions: Sequence[VersionRecord], image: str) -> list[RenderableType]:
    """Which versions have seen an image, in which split.

    Args:
        versions: to look at.
        image: its file, or its sha256.

    Raises:
        UserError: it is neither.
    """
    content = content_of(image)
    return _who_saw(versions, lambda _, images: _seen(images[images["sha256"] == content]), what=f"the image {content}")


def who_saw_patient(versions: Sequence[VersionRecord], names: Sequence[str], key_file: Path) -> list[RenderableType]:
    """Which versions have seen a patient, in which split. A version about which that cannot be known says so.

    Args:
        versions: to look at.
        names: what sources may call the patient, the first as it was asked.
        key_file: where the key is kept that patients are hashed with.

    Raises:
        UserError: there is no key, or it cannot be read.
    """
    key = key_fingerprint(key_file, make=False)
    recorded = sorted({one.tags[PATIENT_KEY] for one in versions if PATIENT_KEY in one.tags})
    if key is None and recorded:
        raise UserError(
            f"The key that patients were hashed with is gone: it was {key_file}, or in {VARIABLE} (fingerprint "
            f"{', '.join(recorded)}). Without it nobody can tell which versions have seen a patient. Put it back from "
            "a backup, or set the variable."
        )

    def answer(version: VersionRecord, images: pd.DataFrame) -> str:
        then = version.tags.get(PATIENT_KEY)
        if PATIENT not in images:
            return f"{UNKNOWN}: registered before patients were recorded"
        if images[PATIENT].isna().all():
            return f"{UNKNOWN}: its sources do not say whose images they are"
        if then != key:
            return f"{UNKNOWN}: hashed with another key (fingerprint {then}, today {key})"
        nameless = int((images[PATIENT].isna() & (images["split"] != "refused")).sum())
        among = f"{nameless:,} images whose patient is not known" if nameless else ""
        found = _seen(images_of_patient(images, names, key_file))
        return f"{found}; perhaps among {among}" if among and found == NOT_SEEN else found

    return _who_saw(versions, answer, what=f"the patient {names[0]}")


def _who_saw(
    versions: Sequence[VersionRecord], answer: Callable[[VersionRecord, pd.DataFrame], str], *, what: str
) -> list[RenderableType]:
    """A table of what each version says, and a sentence about them all."""
    said = []
    for one in versions:
        images = _images_of(one)
        said.append(f"{UNKNOWN}: {_why_no_images(one)}" if images is None else answer(one, images))
    rows = [{**_identity(one), "images seen": text} for one, text in zip(versions, said, strict=True)]
    unknown = sum(text.startswith(UNKNOWN) for text in said)
    n_seen = sum(not text.startswith((UNKNOWN, NOT_SEEN)) for text in said)
    sentence = f"{n_seen} of {len(said)} versions have seen {what}."
    sentence += f" Of {unknown} it cannot be told." if unknown else ""
    return [tables.overview(rows, title=versions[0].name), Text(sentence, overflow="fold")]


def _images_of(version: VersionRecord) -> pd.DataFrame | None:
    return None if version.run_id is None else promotion_records.images_of_version(version.name, version.number)


def _seen(images: pd.DataFrame) -> str:
    """The splits that images are in, with their number."""
    return tables.images_by_split(count_by_split(images)) or NOT_SEEN


def _why_no_images(version: VersionRecord) -> str:
    return "its run is gone" if version.run_id is None else "its images are not on record"


def _identity(version: VersionRecord) -> dict[str, Any]:
    return {
        "version": str(version.number),
        "aliases": ", ".join(version.aliases) or None,
        "date": version.date.strftime("%Y-%m-%d"),
    }


def _decision(version: VersionRecord) -> str | None:
    return "rolled back" if ROLLED_BACK in version.tags else version.tags.get(promotion_records.DECISION)


def _command(version: VersionRecord) -> str:
    task = version.name.removeprefix("cxr-").removesuffix("-demo")
    demo = " --env demo" if version.name.endswith("-demo") else ""
    return f"kedro lineage{demo} {task} {version.number}"


def _patients_by_split(images: pd.DataFrame) -> str | None:
    if not count_patients(images):
        return None
    known = images.drop_duplicates(["split", PATIENT]).dropna(subset=[PATIENT])
    return tables.images_by_split(count_by_split(known))


def _measured_on(metrics: Mapping[str, float]) -> str | None:
    if "n_images" not in metrics:
        return None
    patients = f" of {metrics['n_patients']:,.0f} patients" if "n_patients" in metrics else ""
    return f"{metrics['n_images']:,.0f} test images{patients}"
