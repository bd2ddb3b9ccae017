import json
from dataclasses import replace
from datetime import date

import mlcroissant
import pandas as pd
import pytest

from cxr_pipeline.data.collections import read_collections
from cxr_pipeline.report.croissant import ImageList, croissant

IMAGES = pd.DataFrame(
    {
        "sha256": ["a" * 64, "b" * 64, "c" * 64],
        "split": ["train", "test", "refused"],
        "label_No Finding": [1.0, 0.0, None],
        "label_Mass": [None, 1.0, None],
        "source": ["kermany", "own", None],
        "patient": ["4fcd29a1095ce14d", None, None],
    }
)


@pytest.fixture
def listing(tmp_path):
    IMAGES.to_parquet(tmp_path / "images.parquet", index=False)
    known = read_collections()
    return ImageList(
        file=tmp_path / "images.parquet",
        artifact="lineage/images.parquet",
        run_id="0123",
        model="cxr-findings",
        number=3,
        day=date(2026, 11, 30),
        title="Findings",
        splits="train 1, test 1, refused 1",
        sources={"kermany": known["kermany"], "nih": known["nih"], "own": None},
        phantom=False,
    )


def read(listing):
    file = listing.file.with_suffix(".json")
    file.write_text(json.dumps(croissant(listing)), "utf-8")
    return mlcroissant.Dataset(file)


def test_the_reference_reader_accepts_the_metadata_without_a_warning(listing):
    metadata = read(listing).metadata
    assert not metadata.ctx.issues.errors
    assert not metadata.ctx.issues.warnings
    assert metadata.name == "Images of cxr-findings 3"
    assert metadata.version == "3.0.0"


def test_the_reference_reader_reads_every_column_of_the_list_unless_the_list_has_changed(listing):
    records = pd.DataFrame(read(listing).records("images"))
    records.columns = [name.removeprefix("images/").replace("%20", " ") for name in records.columns]
    texts = records.map(lambda value: value.decode() if isinstance(value, bytes) else value)
    pd.testing.assert_frame_equal(*(table.astype(object).fillna("unknown") for table in (texts, IMAGES)))
    dataset = read(listing)
    IMAGES.head(1).to_parquet(listing.file, index=False)
    with pytest.raises(mlcroissant.GenerationError) as error:
        next(iter(dataset.records("images")))
    assert "is not identical with the reference" in str(error.value.__cause__)


def test_licences_and_citations_are_those_of_the_collections_or_unknown(listing):
    metadata = croissant(listing)
    address, nih, own = metadata["license"]
    assert address == "https://creativecommons.org/licenses/by/4.0/"
    assert nih["description"] == listing.sources["nih"].licence
    assert own == {
        "@type": "sc:CreativeWork",
        "name": "Licence of source own",
        "description": "unknown to this pipeline",
    }
    assert "Source own: its collection, licence and citation are unknown to this pipeline." in metadata["description"]
    assert metadata["citeAs"] == "\n".join(listing.sources[name].citation for name in ("kermany", "nih"))
    assert [work["url"] for work in metadata["isBasedOn"]] == [
        listing.sources[name].page for name in ("kermany", "nih")
    ]


def test_phantom_images_are_called_phantom_images(listing):
    metadata = croissant(replace(listing, sources={"phantoms": None}, phantom=True))
    assert metadata["citeAs"] == "unknown to this pipeline"
    assert "isBasedOn" not in metadata
    for text in (metadata["license"][0]["description"], metadata["rai:personalSensitiveInformation"]):
        assert "phantom images, which are generated and show no patients" in text
