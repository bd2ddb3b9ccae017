"""The manifest, one row per usable image, and the quarantine, one row per refused image.

For each source, rows in it = rows left out + manifest + quarantine + rows whose image is not on disk.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.sources.labels import LabelMap, count_unknown_labels
from cxr_pipeline.data.sources.listing import Listing
from cxr_pipeline.data.sources.readers import Reader, content_hashes
from cxr_pipeline.data.splits import count_patients, join_names

REASONS = (
    "unreadable",
    "truncated",
    "empty",
    "too_large",
    "too_small",
    "outside_source",
    "unknown_label",
    "contradicting_labels",
    "exact_duplicate",
    "not_chest",
)

MAX_LABELS = 20
QUARANTINE_COLUMNS = ["source", "image", "reason", "detail"]

_QUANTILES = {"lowest": 0.0, "lower_quartile": 0.25, "median": 0.5, "upper_quartile": 0.75, "highest": 1.0}


def list_images(
    listings: Mapping[str, tuple[Reader, Listing]], *, labels: LabelMap, hash_cache: Path | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return the images with their classes and content hashes, and the rows that cannot be used.

    Of images with the same content, only the first in the order of the sources is kept; if their labels differ, none is
    kept. Images whose pixels cannot be used are refused by ``finalise``. For ``hash_cache`` see ``content_hashes``.

    `UserError` is raised if none of the images of a source are on disk, or if there are not enough classes: with
    exclusive classes, if fewer than two have images; otherwise, if none has both positive and negative images.

    Returns:
        Images (columns of the manifest), refused rows (``QUARANTINE_COLUMNS``), and for each source
        ``rows_in_source``, ``left_out`` (rows by reason), ``not_on_disk`` and ``notes``.
    """
    listed, refused_parts, counts = [], [], {}
    absent, others = "", list[str]()
    for name, (reader, listing) in listings.items():
        missing = f"rows name images that are not on disk, such as {listing.missing!r}"
        if listing.n_missing and listing.images.empty:
            source = f"{labels.task}.sources.{name}"
            raise UserError(
                f"{source}: {listing.n_missing} of {listing.n_rows} {missing}, and no row names one that is. Expected "
                f"file names, or paths below the source's folder. Fix {source}.path or the table. Links to folders are "
                "followed only with follow_links: true."
            )
        if listing.n_missing:
            absent += f" {name}: {listing.n_missing} {missing}."
        images, refused, counts[name], of_no_class = _list_source(reader, listing, labels, hash_cache)
        listed.append(images.assign(source=name))
        refused_parts.append(refused.assign(source=name))
        others += of_no_class
    label_columns = [f"label_{name}" for name in labels.classes]
    images, duplicates = _remove_duplicates(pd.concat(listed, ignore_index=True), label_columns)
    refused = pd.concat([*refused_parts, duplicates])[QUARANTINE_COLUMNS].reset_index(drop=True)
    described = ["source", "image", "path", "sha256", "patient_id"]
    images = images[[*described, *label_columns, "view", "age", "sex", "given_split", "box_file"]]
    _check_classes(images, refused, labels, absent=absent, others=others)
    return images, refused, counts


def finalise(
    images: pd.DataFrame, refused_rows: pd.DataFrame, refused_images: pd.DataFrame, labels: LabelMap
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Separate the images of ``list_images`` into manifest and quarantine, the latter sorted by source and image.

    ``refused_images`` has ``sha256``, ``reason`` and ``detail`` of the images that could not be decoded. There must be
    enough classes, as in ``list_images``.
    """
    reasons = refused_images.drop_duplicates("sha256")[["sha256", "reason", "detail"]]
    undecodable = images[["source", "image", "sha256"]].merge(reasons, on="sha256")
    quarantine = pd.concat([refused_rows[QUARANTINE_COLUMNS], undecodable[QUARANTINE_COLUMNS]], ignore_index=True)
    manifest = images[~images["sha256"].isin(reasons["sha256"])].reset_index(drop=True)
    _check_classes(manifest, quarantine, labels)
    return manifest, quarantine.sort_values(["source", "image"], kind="stable", ignore_index=True)


def check_quarantine(
    manifest: pd.DataFrame, quarantine: pd.DataFrame, labels: LabelMap, *, max_fraction: float
) -> None:
    """Raise ``UserError``, with an example of each reason, if more than a fraction of the images was refused."""
    n_images = len(manifest) + len(quarantine)
    if len(quarantine) <= max_fraction * n_images:
        return
    raise UserError(
        f"{len(quarantine)} of {n_images} images were refused, more than max_quarantined_fraction = {max_fraction:g} "
        f"allows: {_summarise_reasons(quarantine)}. Fix or remove these images, or allow more: "
        f"--params {labels.task}.ingestion.max_quarantined_fraction={len(quarantine) / n_images + 0.005:.2f}"
        f"{_list_unknown_labels(quarantine, labels)}"
    )


def data_report(
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    counts: Mapping[str, Mapping[str, Any]],
    *,
    classes: Sequence[str],
    phantom: bool,
) -> dict[str, Any]:
    """Describe the data of a task as JSON, given the counts of ``list_images``, without patient ids and file names.

    ``data_digest`` is the SHA-256 over the sorted hashes and classes of the images, ``classes`` the images of each,
    ``unknown_labels`` those for which a class is unknown, and ``age`` is in years. ``left_out`` and ``quarantine`` of a
    source are by reason. `ValueError` is raised if a row of a source was lost or counted twice.
    """
    ages = manifest["age"].dropna()
    unknown = {name: int(manifest[f"label_{name}"].isna().sum()) for name in classes}
    unknown = {name: count for name, count in unknown.items() if count}
    quantiles = {name: float(ages.quantile(q)) if len(ages) else None for name, q in _QUANTILES.items()}
    return {
        "phantom": phantom,
        "data_digest": _digest(manifest),
        "n_images": len(manifest),
        "n_patients": count_patients(manifest),
        "n_images_without_patient": int(manifest["patient_id"].isna().sum()),
        "classes": {name: int(manifest[f"label_{name}"].sum()) for name in classes},
        **({"unknown_labels": unknown} if unknown else {}),
        "sources": {name: _report_source(name, manifest, quarantine, count) for name, count in counts.items()},
        "age": {"n_known": len(ages), **quantiles},
        "sex": _tally(manifest["sex"]),
        "view": _tally(manifest["view"]),
    }


def _list_source(
    reader: Reader, listing: Listing, labels: LabelMap, hash_cache: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any], list[str]]:
    rows = listing.images.join(labels.apply(listing.images, listing.vocabulary))
    usable = rows["reason"].isna() & rows["left_out"].isna()
    images = rows[usable].drop(columns=["reason", "detail"]).reset_index(drop=True)
    images = images.join(content_hashes(reader, images["path"].tolist(), cache=hash_cache))
    refused = pd.concat([listing.refused, rows[rows["reason"].notna()], images[images["reason"].notna()]])
    by_layout = {"by_layout": listing.n_left_out, "repeated": listing.n_repeated}
    counts = {
        "rows_in_source": listing.n_rows,
        "left_out": {name: n for name, n in by_layout.items() if n} | _tally(rows["left_out"].dropna()),
        "not_on_disk": listing.n_missing,
        "notes": list(listing.notes),
    }
    of_no_class = rows.loc[rows["left_out"].eq("other_classes"), "labels"].replace("", None).str.split("|").explode()
    refused = refused[["image", "reason", "detail"]]
    return images[images["reason"].isna()], refused, counts, of_no_class.dropna().tolist()


def _remove_duplicates(images: pd.DataFrame, labels: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    content = images["sha256"]
    conflicting = images.groupby(list(labels), dropna=False).ngroup().groupby(content).transform("nunique") > 1
    repeated = content.duplicated() & ~conflicting
    names = images["source"] + ": " + images["image"]
    first, last = (names.groupby(content).transform(position) for position in ("first", "last"))
    other = first.where(first != names, last)
    contradicting = images[conflicting].assign(
        reason="contradicting_labels", detail="the same image has different labels as " + other[conflicting]
    )
    duplicates = images[repeated].assign(reason="exact_duplicate", detail="the same image as " + first[repeated])
    return images[~conflicting & ~repeated].reset_index(drop=True), pd.concat([contradicting, duplicates])


def _check_classes(
    images: pd.DataFrame, refused: pd.DataFrame, labels: LabelMap, *, absent: str = "", others: Sequence[str] = ()
) -> None:
    values = images.filter(regex="^label_").rename(columns=lambda column: column.removeprefix("label_"))
    n_with, n_without = values.eq(1).sum(), values.eq(0).sum()
    if (n_with > 0).sum() > 1 if labels.exclusive else ((n_with > 0) & (n_without > 0)).any():
        return
    if labels.exclusive:
        fault, expected = "only one class has images", "images of each class"
        found = [f"{count} of {name}" for name, count in n_with.items()]
    else:
        fault, expected = "no class has both positive and negative images", "both for some class"
        both = zip(values, n_with, n_without, strict=True)
        found = [f"{count} positive and {other} negative for {name}" for name, count, other in both]
    reasons = f" {len(refused)} were refused: {_summarise_reasons(refused)}." if len(refused) else ""
    fault = fault if len(images) else "there are no usable images"
    raise UserError(
        f"{fault}: found {', '.join(found)}; expected {expected}.{reasons}{absent} "
        f"The labels of each class are listed under {labels.task}.task.classes; for class folders, the name of the "
        f"folder is the label.{_list_unknown_labels(refused, labels, others)}"
    )


def _summarise_reasons(refused: pd.DataFrame) -> str:
    examples = refused.drop_duplicates("reason").set_index("reason").to_dict("index")
    return "; ".join(
        f"{count} {reason} (such as {examples[reason]['image'][:80]!r}: {shorten(examples[reason]['detail'], 120)})"
        for reason, count in refused["reason"].value_counts().to_dict().items()
    )


def _list_unknown_labels(refused: pd.DataFrame, labels: LabelMap, others: Sequence[str] = ()) -> str:
    unknown = dict((Counter(count_unknown_labels(refused["detail"])) + Counter(others)).most_common())
    if not unknown:
        return ""
    counted = join_names([f"{label[:40]!r} ({count})" for label, count in unknown.items()], MAX_LABELS)
    block = {labels.task: {"task": {"left_out": [*labels.left_out, *list(unknown)[:MAX_LABELS]]}}}
    return (
        f"\nLabels of no class: {counted}. Put this into conf/local/parameters/tasks.yml, with each label under the "
        f"class it means or under left_out:\n{json.dumps(block, ensure_ascii=False)}"
    )


def _report_source(
    name: str, manifest: pd.DataFrame, quarantine: pd.DataFrame, count: Mapping[str, Any]
) -> dict[str, Any]:
    images = manifest[manifest["source"] == name]
    reasons = _tally(quarantine.loc[quarantine["source"] == name, "reason"])
    rows_read = count["rows_in_source"] - sum(count["left_out"].values())
    n_accounted = len(images) + sum(reasons.values()) + count["not_on_disk"]
    if rows_read != n_accounted:
        raise ValueError(f"source {name}: {rows_read} rows read, but {n_accounted} accounted for: {count}")
    return {
        **count,
        "rows_read": rows_read,
        "manifest": len(images),
        "quarantine": reasons,
        "n_patients": count_patients(images),
        "has_patients": bool(images["patient_id"].notna().any()),
    }


def _tally(values: "pd.Series[str]") -> dict[str, int]:
    return {str(value): int(count) for value, count in values.fillna("unknown").value_counts().sort_index().items()}


def _digest(manifest: pd.DataFrame) -> str:
    labels = sorted(manifest.filter(regex="^label_").columns)
    ordered = manifest[["sha256", *labels]].sort_values("sha256")
    return hashlib.sha256(ordered.to_csv(index=False).encode()).hexdigest()
