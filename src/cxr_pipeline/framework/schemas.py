"""Schemas of the tables in the catalog, referenced by its ``validator:`` keys."""

import pandera.pandas as pa

from cxr_pipeline.data.manifest import REASONS
from cxr_pipeline.data.splits import SPLITS

_SHA256 = pa.Check.str_matches(r"^[0-9a-f]{64}$")


def _text(*checks: pa.Check, nullable: bool = False, unique: bool = False) -> pa.Column:
    return pa.Column("str", checks=list(checks), nullable=nullable, unique=unique, coerce=True)


ManifestSchema = pa.DataFrameSchema(
    {
        "source": _text(),
        "image": _text(),
        "path": _text(),
        "sha256": _text(_SHA256, unique=True),
        "patient_id": _text(nullable=True),
        "^label_.+$": pa.Column(float, pa.Check.isin([0.0, 1.0]), nullable=True, regex=True),
        "view": _text(nullable=True),
        "age": pa.Column(float, pa.Check.in_range(0, 120), nullable=True),
        "sex": _text(pa.Check.isin(["F", "M"]), nullable=True),
        "given_split": _text(pa.Check.isin(SPLITS), nullable=True),
        "box_file": _text(nullable=True),
    },
    unique=["source", "image"],
    strict=True,
)

QuarantineSchema = pa.DataFrameSchema(
    {
        "source": _text(),
        "image": _text(),
        "reason": _text(pa.Check.isin(REASONS)),
        "detail": _text(nullable=True),
    },
    strict=True,
)

SplitsSchema = pa.DataFrameSchema(
    {
        "source": _text(),
        "image": _text(),
        "sha256": _text(_SHA256),
        "patient_id": _text(nullable=True),
        "split": _text(pa.Check.isin(SPLITS)),
        "fold_order": pa.Column("int64", pa.Check.ge(0), required=False),  # not in earlier versions
    },
    unique=["source", "image"],
    strict=True,
)
