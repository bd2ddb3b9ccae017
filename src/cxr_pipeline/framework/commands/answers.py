"""Answers of ``kedro lineage`` as tables and sentences for a terminal."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint
from cxr_pipeline.data.splits import SPLITS
from cxr_pipeline.deployment.data_changes import REFUSED
from cxr_pipeline.deployment.lineage import PATIENT, content_of, images_of_patient
from cxr_pipeline.report.formatting import as_text, flat_measure
from cxr_pipeline.tracking import artifacts, promotion_records
from cxr_pipeline.tracking.aliases import ROLLED_BACK
from cxr_pipeline.tracking.lineage import N_IMAGES, N_PATIENTS, PATIENT_KEY, VersionRecord, settings_of

# Answers begin with one of these, or with the splits of the image or patient.
UNKNOWN, NOT_SEEN = "unknown", "not seen"
_WRAPPED_COLUMNS = ("aliases", "decision", "images seen")


def overview_of(versions: Sequence[VersionRecord]) -> RenderableType:
    """Return a table with a row for each version of a model."""
    rows = []
    for version in versions:
        tags, commit = version.tags, version.tags.get("git_commit", "")
        columns = {
            "images": tags.get(N_IMAGES),
            "patients": tags.get(N_PATIENTS),
            "data": tags.get("data_digest", "")[:8],
            "commit": commit[:8] + "+" * commit.endswith("+changes"),
            "decision": "rolled back" if ROLLED_BACK in tags else tags.get(promotion_records.DECISION),
            "AUC": as_text(version.metrics["auc"]) if "auc" in version.metrics else None,
        }
        rows.append(columns)
    return _table_of(versions, rows)


def details_of(version: VersionRecord, today: Mapping[str, Any]) -> RenderableType:
    """Return a table of everything about one version; ``today`` has the current parameters of the task."""
    images, metrics = _images_of(version), version.metrics
    intervals = {f"{name}{end}" for name in metrics for end in ("_low", "_high")}
    settings = {"recipe": {}, "decision_rule": {}, **settings_of(version)}
    facts = {
        "aliases": ", ".join(version.aliases) or "none",
        "date": version.date.isoformat(timespec="seconds"),
        "run": version.run_id,
        "images": images is not None and _splits(images),
        "patients": images is not None and _splits_of_patients(images),
        "list of images": images is not None and f"{artifacts.IMAGES} of the run, or use --images FILE",
        "model card": version.run_id and f"{artifacts.CARD} of the run",
        **{f"tag {name}": value for name, value in sorted(version.tags.items())},
        **{block: _lines(flatten(settings[block])) for block in ("recipe", "decision_rule")},
        "metrics": _lines({name: flat_measure(metrics, name) for name in metrics if name not in intervals}),
        "parameters": version.parameters and f"{len(version.parameters)} in the run",
        "changed since": _lines(_changed_parameters(version.parameters, flatten(today))) or "none",
    }
    table = Table(title=f"{version.name} {version.number}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, str(value or "not on record"))
    return table


def write_images(version: VersionRecord, file: Path) -> RenderableType:
    """Write the images of a version as CSV.

    Raises:
        UserError: The run logged none, or the file cannot be written.
    """
    images = _images_of(version)
    if images is None:
        raise UserError(
            f"There is no list of the images of {version.name} {version.number}: {_why_no_images(version)}."
        )
    try:
        images.to_csv(file, index=False)
    except OSError as error:
        raise UserError(f"Cannot write {file} ({error.strerror or error}). Choose another file.") from error
    return Text(f"{len(images):,} images of {version.name} {version.number} are in {file}.")


def who_saw_image(versions: Sequence[VersionRecord], image: str) -> list[RenderableType]:
    """Return which versions have seen an image, given as its path or SHA-256, and in which split.

    Raises:
        UserError: It is neither.
    """
    content = content_of(image)

    def answer(_: VersionRecord, images: pd.DataFrame) -> str:
        return _splits(images[images["sha256"] == content]) or NOT_SEEN

    return _who_saw(versions, answer, subject=f"the image {content}")


def who_saw_patient(versions: Sequence[VersionRecord], names: Sequence[str], key_file: Path) -> list[RenderableType]:
    """Return the versions that used a patient, and the patient's splits.

    Args:
        versions: The versions.
        names: Possible ids of the patient in the sources; the first is the one that the user typed.
        key_file: File with the key that patients are hashed with.

    Raises:
        UserError: The key is missing or cannot be read.
    """
    key = key_fingerprint(key_file, make=False)
    keys = sorted({version.tags[PATIENT_KEY] for version in versions if PATIENT_KEY in version.tags})
    if key is None and keys:
        raise UserError(
            f"The key that patients were hashed with is missing: {key_file}, or {VARIABLE} (fingerprint "
            f"{', '.join(keys)}). Without it, the versions that used a patient cannot be found. Restore it from a "
            "backup, or set the variable."
        )

    def answer(version: VersionRecord, images: pd.DataFrame) -> str:
        version_key = version.tags.get(PATIENT_KEY)
        if PATIENT not in images:
            return f"{UNKNOWN}: registered before patients were recorded"
        if images[PATIENT].isna().all():
            return f"{UNKNOWN}: its sources have no patient ids"
        if version_key != key:
            return f"{UNKNOWN}: hashed with another key (fingerprint {version_key}, today {key})"
        n_unknown = int((images[PATIENT].isna() & (images["split"] != "refused")).sum())
        note = f"; perhaps among {n_unknown:,} images whose patient is unknown" if n_unknown else ""
        return _splits(images_of_patient(images, names, key_file)) or NOT_SEEN + note

    return _who_saw(versions, answer, subject=f"the patient {names[0]}")


def _who_saw(
    versions: Sequence[VersionRecord], answer: Callable[[VersionRecord, pd.DataFrame], str], *, subject: str
) -> list[RenderableType]:
    """Return a table with the answer for each version, and a summary sentence."""
    answers = []
    for version in versions:
        images = _images_of(version)
        answers.append(f"{UNKNOWN}: {_why_no_images(version)}" if images is None else answer(version, images))
    n_unknown = sum(text.startswith(UNKNOWN) for text in answers)
    n_seen = sum(not text.startswith((UNKNOWN, NOT_SEEN)) for text in answers)
    sentence = f"{n_seen} of {len(answers)} versions have seen {subject}."
    sentence += f" For {n_unknown} it is unknown." if n_unknown else ""
    return [_table_of(versions, [{"images seen": text} for text in answers]), Text(sentence, overflow="fold")]


def _table_of(versions: Sequence[VersionRecord], rows: Sequence[Mapping[str, str | None]]) -> Table:
    table = Table(title=versions[0].name, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for name in ("version", "aliases", "date", *rows[0]):
        table.add_column(name, overflow="fold", no_wrap=name not in _WRAPPED_COLUMNS)
    for version, row in zip(versions, rows, strict=True):
        identity = (str(version.number), ", ".join(version.aliases), version.date.strftime("%Y-%m-%d"))
        table.add_row(*identity, *(value or "" for value in row.values()))
    return table


def _images_of(version: VersionRecord) -> pd.DataFrame | None:
    return None if version.run_id is None else artifacts.images_of_version(version.name, version.number)


def _why_no_images(version: VersionRecord) -> str:
    return "its run was deleted" if version.run_id is None else "its run logged none"


def _splits(images: pd.DataFrame) -> str:
    """Return, for example, ``"train 30, validation 4, test 6"``."""
    counts = images["split"].value_counts()
    return ", ".join(f"{split} {counts[split]:,}" for split in (*SPLITS, REFUSED) if split in counts)


def _splits_of_patients(images: pd.DataFrame) -> str | None:
    if PATIENT not in images:
        return None
    return _splits(images.drop_duplicates(["split", PATIENT]).dropna(subset=[PATIENT]))


def _lines(values: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {as_text(value) or 'none'}" for name, value in values.items())


def _changed_parameters(then: Mapping[str, str], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters of a run, by dotted name, that differ in the current configuration."""

    def same(value: str, current: Any) -> bool:
        try:
            return float(value) == float(current)
        except (TypeError, ValueError):
            return value == str(current)

    shared = {name: value for name, value in then.items() if name in now}
    return {name: f"{value} (today {now[name]})" for name, value in shared.items() if not same(value, now[name])}
