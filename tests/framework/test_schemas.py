"""Tests of the schemas of tables."""

from pathlib import Path

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


def test_valid_tables_pass_unchanged() -> None:
    for schema, table in [(ManifestSchema, MANIFEST), (QuarantineSchema, QUARANTINE), (SplitsSchema, SPLITS)]:
        pd.testing.assert_frame_equal(schema.validate(table), table)
        assert schema.validate(table.iloc[:0]).empty


def test_a_label_may_be_unknown_and_a_class_s_name_have_a_space() -> None:
    several = MANIFEST.assign(**{"label_ill": [1.0, None], "label_No Finding": [None, None]})
    several = several.astype({"label_No Finding": "float64"})
    pd.testing.assert_frame_equal(ManifestSchema.validate(several), several)


def test_a_parquet_round_trip_changes_nothing(tmp_path: Path) -> None:
    MANIFEST.to_parquet(tmp_path / "manifest.parquet", index=False)
    loaded = ManifestSchema.validate(pd.read_parquet(tmp_path / "manifest.parquet"))
    pd.testing.assert_frame_equal(loaded, MANIFEST)


def test_a_quarantine_of_numbered_images_from_csv_is_text(tmp_path: Path) -> None:
    QUARANTINE.assign(image="17").to_csv(tmp_path / "quarantine.csv", index=False)
    assert QuarantineSchema.validate(pd.read_csv(tmp_path / "quarantine.csv"))["image"].tolist() == ["17"]


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 63},
        {"sha256": "0" * 64},
        {"image": "a.png"},
        {"label_ill": 0.5},
        {"age": 121.0},
        {"sex": "X"},
        {"given_split": "dev"},
        {"source": None},
        {"extra": 1},
    ],
)
def test_an_impossible_manifest_fails(changes: dict[str, object]) -> None:
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors)):
        ManifestSchema.validate(MANIFEST.assign(**changes))


def test_an_unknown_reason_or_split_fails() -> None:
    with pytest.raises(pandera.errors.SchemaError, match="reason"):
        QuarantineSchema.validate(QUARANTINE.assign(reason="ugly"))
    with pytest.raises(pandera.errors.SchemaError, match="split"):
        SplitsSchema.validate(SPLITS.assign(split="dev"))


def test_a_missing_column_fails() -> None:
    with pytest.raises((pandera.errors.SchemaError, pandera.errors.SchemaErrors), match="patient_id"):
        SplitsSchema.validate(SPLITS.drop(columns="patient_id"))
