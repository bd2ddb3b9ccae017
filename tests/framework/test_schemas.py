"""Tests of the schemas of tables."""

import pandas as pd
import pandera.errors
import pytest

from cxr_pipeline.framework.schemas import ManifestSchema, QuarantineSchema, SplitsSchema

MANIFEST = pd.DataFrame(
    {
        "source": ["images", "images"],
        "image": ["a.png", "b.png"],
        "path": ["a.png", "b.png"],
        "sha256": ["0" * 64, "1" * 64],
        "patient_id": pd.Series([None, None], dtype="str"),
        "label_ill": [1.0, 0.0],
        "view": pd.Series(["PA", None], dtype="str"),
        "age": [30.0, None],
        "sex": pd.Series(["F", None], dtype="str"),
        "given_split": pd.Series(["train", None], dtype="str"),
        "box_file": pd.Series([None, None], dtype="str"),
    }
)
QUARANTINE = pd.DataFrame({"source": ["images"], "image": ["c.png"], "reason": ["empty"], "detail": ["zero bytes"]})
SPLITS = MANIFEST[["source", "image", "sha256", "patient_id"]].assign(split=["train", "test"])


@pytest.mark.parametrize(
    ("schema", "table"),
    [
        *(
            (ManifestSchema, MANIFEST.assign(**{column: value}))
            for column, value in [
                *[("sha256", "0" * 63), ("sha256", "0" * 64), ("image", "a.png"), ("label_ill", 0.5), ("age", 121.0)],
                *[("sex", "X"), ("given_split", "dev"), ("source", None), ("extra", 1)],
            ]
        ),
        (QuarantineSchema, QUARANTINE.assign(reason="ugly")),
        (SplitsSchema, SPLITS.assign(split="dev")),
        (SplitsSchema, SPLITS.drop(columns="patient_id")),
    ],
)
def test_an_invalid_table_is_refused(schema, table):
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        schema.validate(table)
