"""Croissant metadata: a description of the images of a model version that other programs can read.

It follows version 1.0 of the `specification <https://docs.mlcommons.org/croissant/docs/croissant-spec.html>`_.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq

from cxr_pipeline.data.collections import Collection
from cxr_pipeline.deployment.data_changes import PATIENT

_FILE = "list"
_UNKNOWN = "unknown to this pipeline"
_NO_PATIENTS = "phantom images, which are generated and show no patients"
_PATIENTS = (
    "Findings on chest X-rays of patients. The column patient has keyed hashes (HMAC-SHA256), by which the images of a "
    "patient can be grouped; they cannot be reversed without the key, which is not part of the dataset."
)
_TERMS = (
    "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
    "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
    "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
# The context that the specification recommends. Readers complain about any other.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_COLUMNS = {
    "sha256": "SHA-256 of the file of the image, or of its pixels if it is a row of a table or array.",
    "split": "train, validation, test, or refused: the image could not be decoded and was not used.",
    "source": "Name of the source of the image; null if it was refused.",
    PATIENT: "Keyed hash of source and patient id, equal for all images of a patient; null if the patient is unknown.",
}


@dataclass(frozen=True)
class ImageList:
    """The images of a model version, listed in a Parquet file that lies beside the metadata.

    ``file`` is a copy of ``artifact`` of the run ``run_id``. ``splits`` has the numbers of images as text. ``sources``
    has the collection that each source reads; None if it is not known, and for phantom images.
    """

    file: Path
    artifact: str
    run_id: str
    model: str
    number: int
    day: date
    title: str
    splits: str
    sources: Mapping[str, Collection | None]
    phantom: bool


def croissant(listing: ImageList) -> dict[str, Any]:
    """Return the metadata of a list of images as JSON-LD. Facts that are not known are called unknown."""
    collections = [collection for collection in listing.sources.values() if collection is not None]
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"Images of {listing.model} {listing.number}",
        "description": _description(listing),
        # Not the page of the version, whose address may be that of a computer in the user's network.
        "url": f"models:/{listing.model}/{listing.number}",
        "version": f"{listing.number}.0.0",
        "datePublished": listing.day.isoformat(),
        "creator": {"@type": "sc:Organization", "name": _UNKNOWN},
        "license": [_licence(name, one, listing.phantom) for name, one in listing.sources.items()],
        "citeAs": "\n".join(collection.citation for collection in collections) or _UNKNOWN,
        "rai:personalSensitiveInformation": f"None: {_NO_PATIENTS}" if listing.phantom else _PATIENTS,
        "distribution": [_file(listing)],
        "recordSet": [_records(pq.read_schema(listing.file).names)],
    }
    if collections:
        metadata["isBasedOn"] = [{"@type": "sc:Dataset", "name": one.title, "url": one.page} for one in collections]
    return metadata


def _description(listing: ImageList) -> str:
    sources = [f"Source {name}: {_origin(one, listing.phantom)}." for name, one in listing.sources.items()]
    first = f"The images of the model version {listing.model} {listing.number} ({listing.title}): {listing.splits}."
    content = "The list has SHA-256, split, labels, source and hashed patient of each image, not the images themselves."
    return " ".join([first, content, *sources])


def _origin(collection: Collection | None, phantom: bool) -> str:
    if collection is not None:
        return f"{collection.title}, {collection.page}. Licence: {collection.licence}"
    return _NO_PATIENTS if phantom else f"its collection, licence and citation are {_UNKNOWN}"


def _licence(source: str, collection: Collection | None, phantom: bool) -> str | dict[str, str]:
    """Return the address of a licence, or a work that has its text."""
    if collection is None:
        terms = f"Licence of source {source}", _NO_PATIENTS if phantom else _UNKNOWN
    elif address := re.search(r", (https?://\S+)$", collection.licence):
        return address[1]
    else:
        terms = f"Terms of {collection.title}", collection.licence
    return {"@type": "sc:CreativeWork", "name": terms[0], "description": terms[1]}


def _file(listing: ImageList) -> dict[str, str]:
    content = listing.file.read_bytes()
    return {
        "@type": "cr:FileObject",
        "@id": _FILE,
        "name": listing.file.name,
        "description": f"Artifact {listing.artifact} of the MLflow run {listing.run_id}.",
        "contentUrl": listing.file.name,  # relative to the metadata
        "contentSize": f"{len(content)} B",
        "encodingFormat": "application/x-parquet",
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _records(columns: Sequence[str]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "One record for each image.",
        "key": {"@id": "images/sha256"},
        "field": [_field(column) for column in columns],
    }


def _field(column: str) -> dict[str, Any]:
    is_label, label = column not in _COLUMNS, column.removeprefix("label_")
    kind = ["cr:Label"] if is_label else ["cr:Split"] if column == "split" else []
    return {
        "@type": "cr:Field",
        "@id": f"images/{quote(column)}",
        "name": column,
        "description": f"1: {label}; 0: not {label}; null: unknown." if is_label else _COLUMNS[column],
        "dataType": ["sc:Float" if is_label else "sc:Text", *kind],
        "source": {"fileObject": {"@id": _FILE}, "extract": {"column": column}},
    }
