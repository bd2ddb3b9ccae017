"""The laws that every layout keeps, on the small sources of ``samples``."""

import importlib
import importlib.util
import pickle
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.images.reader import Reader
from cxr_pipeline.data.manifest import REASONS
from cxr_pipeline.data.sources import LAYOUTS, Listing, open_source, read_source
from cxr_pipeline.data.sources.listing import IMAGE_COLUMNS
from cxr_pipeline.framework.config import TASKS
from cxr_pipeline.framework.config.sources import Sources

SAMPLES = Path(__file__).parent / "samples"
GUIDE = Path(__file__).parents[3] / "docs" / "layouts.md"
PACKAGE = "layout_samples"


def load_sample(layout: str) -> ModuleType:
    if not (SAMPLES / f"{layout}.py").is_file():
        pytest.fail(f"the layout {layout} has no sample; expected tests/sources/samples/{layout}.py with write(folder)")
    if PACKAGE not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            PACKAGE, SAMPLES / "__init__.py", submodule_search_locations=[str(SAMPLES)]
        )
        sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[PACKAGE])
    return importlib.import_module(f"{PACKAGE}.{layout}")


@dataclass(frozen=True)
class Source:
    """A sample, written and read once."""

    layout: str
    sample: ModuleType
    path: Path
    options: dict[str, object]
    listing: Listing
    reader: Reader
    unpacked: Path

    def read(self, path: Path | None = None) -> Listing:
        return read_source(self.layout, path or self.path, **self.options)

    @property
    def draws(self) -> bool:
        return getattr(self.sample, "DRAWS", False)


def write(sample: ModuleType, layout: str, folder: Path) -> tuple[Path, dict[str, object]]:
    """Write a sample; the options go through the configuration, as in a run."""
    path, options = sample.write(folder)
    sources = Sources.model_validate({"images": {"layout": layout, "path": str(path), **options}})
    return path, sources.root["images"].options


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    layout = request.param
    sample, place = load_sample(layout), tmp_path_factory.mktemp(layout)
    path, options = write(sample, layout, place / "images")
    listing = read_source(layout, path, **options)
    reader = open_source(layout, path, unpacked=place / "unpacked", **options)
    return Source(layout, sample, path, options, listing, reader, place / "unpacked")


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def assert_same(first: Listing, second: Listing) -> None:
    pd.testing.assert_frame_equal(first.images, second.images)
    pd.testing.assert_frame_equal(first.refused, second.refused)
    for name in ("n_missing", "n_left_out", "n_rows", "notes", "vocabulary"):
        assert getattr(first, name) == getattr(second, name), name


def test_the_sample_is_worth_testing(source: Source) -> None:
    images = source.listing.images
    assert len(images) >= 6
    assert images["labels"].nunique() >= 2


def test_every_sample_has_its_layout() -> None:
    assert {file.stem for file in SAMPLES.glob("*.py")} - {"__init__"} <= set(LAYOUTS)


def test_the_guide_shows_every_layout_as_it_is_configured() -> None:
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    ]
    of_tasks = [block[task]["sources"] for block in blocks for task in TASKS if task in block]
    alone = [block for block in blocks if not set(TASKS) & set(block)]
    shown = [Sources.model_validate(block) for block in of_tasks + alone]
    assert {source.layout for sources in shown for source in sources.root.values()} == set(LAYOUTS)


def test_every_row_is_accounted_for(source: Source) -> None:
    listing = source.listing
    n_rows = getattr(source.sample, "N_ROWS", None)
    assert n_rows is not None, f"samples/{source.layout}.py does not say N_ROWS, the number of rows that it writes"
    assert len(listing.images) + len(listing.refused) + listing.n_missing + listing.n_left_out == n_rows
    assert listing.n_rows == n_rows


def test_columns_and_types(source: Source) -> None:
    images = source.listing.images
    assert list(images) == list(IMAGE_COLUMNS)
    pd.testing.assert_series_equal(images.dtypes, images.astype(IMAGE_COLUMNS).dtypes)
    assert images.index.equals(pd.RangeIndex(len(images)))
    assert images[["image", "path"]].notna().all(axis=None)
    assert set(images["given_split"].dropna()) <= {"train", "validation", "test"}
    assert set(images["sex"].dropna()) <= {"F", "M"}
    assert images["age"].dropna().between(0, 120).all()
    for column in set(IMAGE_COLUMNS) - {"labels", "age"}:
        assert not (images[column] == "").any(), f"nothing known in {column} is null"


def test_refusals(source: Source) -> None:
    refused = source.listing.refused
    assert list(refused) == ["image", "reason", "detail"]
    assert refused.notna().all(axis=None)
    assert set(refused["reason"]) <= set(REASONS)


def test_images_are_unique_and_in_order(source: Source) -> None:
    images = source.listing.images["image"].tolist()
    assert images == sorted(set(images))
    assert source.listing.images["path"].is_unique


def test_no_path_leads_out(source: Source) -> None:
    images = source.listing.images
    for text in [*images["image"], *images["path"]]:
        assert not text.startswith("/")
        assert ".." not in text.split("/")
        assert "\\" not in text
    everything = images.to_csv() + source.listing.refused.to_csv() + "".join(source.listing.notes)
    assert str(source.path.parent) not in everything


def test_labels_are_from_the_vocabulary(source: Source) -> None:
    vocabulary = source.listing.vocabulary
    if not vocabulary:
        pytest.skip(f"{source.layout} does not know which labels it uses")
    for column in ("labels", "uncertain", "unknown"):
        seen = {label for text in source.listing.images[column].dropna() if text for label in text.split("|")}
        assert seen <= vocabulary, column


def test_two_reads_are_equal(source: Source) -> None:
    assert_same(source.listing, source.read())


def test_another_place_gives_the_same(source: Source, tmp_path: Path) -> None:
    path, options = write(source.sample, source.layout, tmp_path / "elsewhere")
    assert_same(source.listing, read_source(source.layout, path, **options))


def test_reading_leaves_the_source_as_it_is(source: Source) -> None:
    folder = source.path if source.path.is_dir() else source.path.parent
    before = content_of(folder)
    images = source.read().images
    reader = open_source(source.layout, source.path, unpacked=source.unpacked, **source.options)
    reader.read(images["path"].iloc[0])
    assert content_of(folder) == before


def test_every_image_can_be_read_and_decoded(source: Source) -> None:
    for path in source.listing.images["path"]:
        grey = decode(source.reader.read(path), max_megapixels=1)
        assert grey.dtype == np.uint8
        assert grey.ndim == 2


def test_the_same_bytes_twice_and_in_another_process(source: Source) -> None:
    sent = pickle.loads(pickle.dumps(source.reader))
    again = open_source(source.layout, source.path, unpacked=source.unpacked, **source.options)
    for path in source.listing.images["path"]:
        content = source.reader.read(path)
        assert isinstance(content, bytes)
        assert content == source.reader.read(path) == sent.read(path) == again.read(path)


@pytest.mark.parametrize("path", ["no-such-image.png", "../images", "/etc/hostname", "-1", "1000000000", "", "a\0b"])
def test_what_is_no_image_is_refused(source: Source, path: str) -> None:
    with pytest.raises(ImageRefused) as refusal:
        source.reader.read(path)
    assert refusal.value.reason in REASONS


def test_whether_there_are_images(source: Source, tmp_path: Path) -> None:
    holds_images = LAYOUTS[source.layout].holds_images
    assert holds_images(source.path)
    if not source.draws:
        assert not holds_images(tmp_path)
        assert not holds_images(tmp_path / "absent" / source.path.name)


def test_a_place_that_is_not_there(source: Source, tmp_path: Path) -> None:
    if source.draws:
        pytest.skip(f"{source.layout} makes its images")
    absent = tmp_path / "absent" / source.path.name
    with pytest.raises(UserError) as error:
        source.read(absent)
    assert str(absent) in str(error.value)
    assert str(error.value).rstrip().endswith((".", ")"))


def test_what_is_expected_is_said(source: Source) -> None:
    expected = LAYOUTS[source.layout].expected.format(labels="ill, well")
    assert expected
    assert "{" not in expected
