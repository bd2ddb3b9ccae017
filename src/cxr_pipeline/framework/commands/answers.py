"""Answers of ``kedro lineage`` as text."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically
from cxr_pipeline.common.mappings import flatten
from cxr_pipeline.data.collections import fetched_collection
from cxr_pipeline.data.sources.listing import printable
from cxr_pipeline.data.sources.pseudonyms import VARIABLE, key_fingerprint, pseudonyms
from cxr_pipeline.data.splits import SPLITS
from cxr_pipeline.deployment.data_changes import PATIENT, REFUSED
from cxr_pipeline.framework.datasets import csv_text
from cxr_pipeline.report.croissant import ImageList, croissant
from cxr_pipeline.report.formatting import SUFFIXES, from_columns, measure, number
from cxr_pipeline.tracking import artifacts, promotion_records
from cxr_pipeline.tracking.aliases import ROLLED_BACK
from cxr_pipeline.tracking.artifacts import N_IMAGES, N_PATIENTS, PATIENT_KEY
from cxr_pipeline.tracking.model_index import VersionRecord, settings_of

_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_NUMBER = 12
_NO_IMAGES = "its run was deleted, or logged no list of images"


def overview_of(versions: Sequence[VersionRecord]) -> str:
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
            "AUC": number(version.metrics["auc"]) if "auc" in version.metrics else None,
        }
        rows.append(columns)
    return _table_of(versions, rows)


def details_of(version: VersionRecord, today: Mapping[str, Any]) -> str:
    """Describe one version in YAML; ``today`` has the current parameters of the task."""
    images, metrics, now = artifacts.images_of_run(version.run_id), version.metrics, flatten(today)
    patients = None if images is None or PATIENT not in images else images.dropna(subset=[PATIENT])
    then = {name: value for name, value in version.parameters.items() if name in now}
    changed = {name: f"{value} (today {now[name]})" for name, value in then.items() if not _same(value, now[name])}
    facts = {
        "version": version.name,
        "aliases": ", ".join(version.aliases) or "none",
        "date": version.date.isoformat(timespec="seconds"),
        "run": version.run_id,
        "images": None if images is None else _splits(images),
        "patients": None if patients is None else _splits(patients.drop_duplicates(["split", PATIENT])),
        "tags": dict(sorted(version.tags.items())),
        "model": settings_of(version),
        "metrics": {name: _metric(metrics, name) for name in metrics if not name.endswith(SUFFIXES)},
        "changed parameters": version.parameters and (changed or "none"),
    }
    facts = {name: value or "not on record" for name, value in facts.items()}
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=1000)


def _metric(metrics: Mapping[str, float], name: str) -> str | int:
    # MLflow stores counts as floats.
    return int(metrics[name]) if name.startswith("n_") else measure(from_columns(metrics, name))


def write_images(version: VersionRecord, file: Path) -> str:
    """Write the images of a version as CSV; raise `UserError` if they are not on record."""
    images = _images_of(version)
    with written_atomically(file) as temporary:
        temporary.write_text(csv_text(images), "utf-8")
    return f"{len(images):,} images of {version.name} are in {file}."


def write_croissant(version: VersionRecord, file: Path, raw: Path) -> str:
    """Write Croissant metadata of the images of a version, and their list beside it; `UserError` as `write_images`.

    Sources that ``kedro fetch`` downloaded below ``raw`` have their licence and citation.
    """
    if file.suffix not in (".json", ".jsonld"):
        raise UserError(f"--croissant: expected the name of a file that ends in .json or .jsonld; found {file}.")
    images, table = _images_of(version), file.with_suffix(".parquet")
    paths = {name: version.parameters.get(f"sources.{name}.path") for name in images["source"].dropna().unique()}
    sources = {name: fetched_collection(raw / path) if path else None for name, path in sorted(paths.items())}
    phantom = version.tags.get("images") == "phantom"
    with written_atomically(table) as temporary:
        artifacts.copy_images_of_run(version.run_id, temporary)
    listing = ImageList(
        file=table,
        artifact=artifacts.IMAGES,
        run_id=str(version.run_id),
        model=version.model,
        number=version.number,
        day=version.date.date(),
        title=version.parameters.get("task.title", "title not on record"),
        splits=_splits(images),
        sources=sources,
        phantom=phantom,
    )
    with written_atomically(file) as temporary:
        temporary.write_text(json.dumps(croissant(listing), indent=2, ensure_ascii=False) + "\n", "utf-8")
    unknown = [name for name, collection in sources.items() if collection is None and not phantom]
    answer = f"Croissant metadata of the {len(images):,} images of {version.name} is in {file}, their list in {table}."
    if unknown:
        answer += "\nThe licence and citation of these sources are unknown, because kedro fetch left no record beside "
        answer += f"their images: {', '.join(unknown)}"
    return answer


def _images_of(version: VersionRecord) -> pd.DataFrame:
    images = artifacts.images_of_run(version.run_id)
    if images is None:
        raise UserError(f"There is no list of the images of {version.name}: {_NO_IMAGES}.")
    return images


def who_used_image(versions: Sequence[VersionRecord], image: str) -> str:
    """Return which versions used an image, given as its path or SHA-256, and in which split."""
    content = content_of(image)
    return _who_used(versions, f"the image {content}", lambda _, images: _splits(images[images["sha256"] == content]))


def who_used_patient(versions: Sequence[VersionRecord], names: Sequence[str], key_file: Path) -> str:
    """Return which versions used a patient, given as its possible ids in the sources, and in which splits."""
    key = key_fingerprint(key_file, make=False)
    keys = sorted({version.tags[PATIENT_KEY] for version in versions if PATIENT_KEY in version.tags})
    if key is None and keys:
        raise UserError(
            f"The key that patients were hashed with is missing: {key_file}, or {VARIABLE} (fingerprint "
            f"{', '.join(keys)}). Restore it from a backup, or set the variable."
        )

    def answer(version: VersionRecord, images: pd.DataFrame) -> str:
        version_key = version.tags.get(PATIENT_KEY)
        if version_key is None:
            return "unknown: its patients are not on record"
        if version_key != key:
            return f"unknown: hashed with another key (fingerprint {version_key}, today {key})"
        n_unknown = int((images[PATIENT].isna() & (images["split"] != REFUSED)).sum())
        note = f"not used; perhaps among {n_unknown:,} images whose patient is unknown" if n_unknown else ""
        return _splits(images_of_patient(images, names, key_file)) or note

    return _who_used(versions, f"the patient {names[0]}", answer)


def images_of_patient(images: pd.DataFrame, ids: Sequence[str], key_file: Path) -> pd.DataFrame:
    """Select the images of a patient, to which sources may give any of the ``ids``, from `with_patients`."""
    # The label table and the file names of a release may differ in leading zeros, as in NIH ChestX-ray14.
    sources = images["source"].dropna().unique()
    for spellings in (list(ids), [other for name in ids for other in _other_zeros(name)]):
        names = pd.Series([f"{source}\x1f{name}" for source in sources for name in spellings], dtype="str")
        matches = images[images[PATIENT].isin(pseudonyms(names, key_file)) & images[PATIENT].notna()]
        if len(matches):
            return matches
    return images.iloc[:0]


def _other_zeros(name: str) -> list[str]:
    number = name.lstrip("0") or "0"
    return [number.zfill(width) for width in range(len(number), _LONGEST_NUMBER + 1)] if name.isdecimal() else []


def content_of(image: str) -> str:
    """Return the SHA-256 of an image, given as 64 hexadecimal digits or as the path of its file."""
    if _SHA256.fullmatch(image):
        return image.lower()
    try:
        return hashlib.sha256(Path(image).read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"Cannot read an image at {printable(image)} ({error.strerror or error}). Expected the path of an image, "
            "or its SHA-256 (64 hexadecimal digits, as sha256sum prints them)."
        ) from error


def _who_used(
    versions: Sequence[VersionRecord], subject: str, answer: Callable[[VersionRecord, pd.DataFrame], str]
) -> str:
    """Return a table with the answer for each version, the splits if it used the subject, and a summary."""
    answers = []
    for version in versions:
        images = artifacts.images_of_run(version.run_id)
        answers.append(f"unknown: {_NO_IMAGES}" if images is None else answer(version, images) or "not used")
    n_unknown = sum(text.startswith("unknown") for text in answers)
    n_used = sum(text.startswith(SPLITS) for text in answers)
    summary = f"{n_used} of {len(answers)} versions used {subject}."
    summary += f" For {n_unknown} it is unknown." if n_unknown else ""
    return _table_of(versions, [{"images used": text} for text in answers]) + "\n\n" + summary


def _table_of(versions: Sequence[VersionRecord], rows: Sequence[Mapping[str, str | None]]) -> str:
    columns = [
        {"version": version.number, "aliases": ", ".join(version.aliases), "date": version.date.date(), **row}
        for version, row in zip(versions, rows, strict=True)
    ]
    return f"{versions[0].model}\n\n{pd.DataFrame(columns).fillna('').to_string(index=False)}"


def _splits(images: pd.DataFrame) -> str:
    """Return, for example, ``"train 30, validation 4, test 6"``."""
    counts = images["split"].value_counts()
    return ", ".join(f"{split} {counts[split]:,}" for split in (*SPLITS, REFUSED) if split in counts)


def _same(logged: str, current: Any) -> bool:
    try:
        return float(logged) == float(current)
    except (TypeError, ValueError):
        return logged == str(current)
