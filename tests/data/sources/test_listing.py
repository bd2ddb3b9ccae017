"""Tests of the rows that a layout yields."""

import pandas as pd
import pytest

from cxr_pipeline.data.sources.listing import IMAGE_COLUMNS, Listing, image_table, printable, refusal_table


def test_image_table_fills_missing_columns_and_orders_by_image() -> None:
    table = image_table({"image": ["b.png", "a.png"], "path": ["b.png", "a.png"], "labels": ["x", "y"]})
    assert list(table.columns) == list(IMAGE_COLUMNS)
    assert table["image"].tolist() == ["a.png", "b.png"]
    assert table["labels"].tolist() == ["y", "x"]
    assert table[["patient_id", "uncertain", "unknown", "age", "given_split"]].isna().all(axis=None)


@pytest.mark.parametrize("images", [[], ["a.png"]])
def test_column_types_do_not_depend_on_the_content(images: list[str]) -> None:
    table = image_table({"image": images, "path": images})
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == IMAGE_COLUMNS


def test_rows_are_images_refused_missing_and_left_out() -> None:
    images = image_table({"image": ["a", "b"]})
    refused = refusal_table([("c", "empty", "zero bytes")])
    assert Listing(images, refused, n_missing=4).n_rows == 7
    assert Listing(images, refused, n_missing=4, n_left_out=5).n_rows == 12


@pytest.mark.parametrize("name", ["a\udcff.png", "täst\n.png", "-x.png", "胸.png"])
def test_printable_names_fit_into_a_table(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("table") / "names.parquet"
    refusal_table([(printable(name), "unreadable", "")]).to_parquet(file)
    assert pd.read_parquet(file)["image"].tolist() == [printable(name)]
    assert printable(name).encode().decode() == printable(name)


def test_printable_keeps_a_valid_name() -> None:
    assert printable("täst 胸\n.png") == "täst 胸\n.png"
