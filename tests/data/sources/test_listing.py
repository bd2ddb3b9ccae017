import pandas as pd
import pytest

from cxr_pipeline.data.sources.listing import IMAGE_COLUMNS, Listing, image_table, printable, refusal_table


@pytest.mark.parametrize("images", [[], ["b.png", "a.png"]])
def test_columns_and_types_do_not_depend_on_the_content(images: list[str]) -> None:
    table = image_table({"image": images, "path": images})
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == IMAGE_COLUMNS
    assert table["image"].tolist() == sorted(images)
    assert table[["patient_id", "uncertain", "unknown", "age", "given_split"]].isna().all(axis=None)


def test_rows_are_images_refused_missing_and_left_out() -> None:
    refused = refusal_table([("c", "empty", "zero bytes")])
    assert Listing(image_table({"image": ["a", "b"]}), refused, n_missing=4, n_left_out=5).n_rows == 12


@pytest.mark.parametrize(
    ("name", "shown"), [("a\udcff.png", "a\\xff.png"), ("täst\n.png", "täst\n.png"), ("-x.png", "-x.png"), ("胸", "胸")]
)
def test_printable_names_can_be_stored_in_a_table(
    name: str, shown: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("table") / "names.parquet"
    refusal_table([(printable(name), "unreadable", "")]).to_parquet(file)
    assert pd.read_parquet(file)["image"].tolist() == [shown]
