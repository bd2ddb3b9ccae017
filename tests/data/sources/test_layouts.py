"""Common checks over all layouts, on the small sources of ``samples``."""

import importlib
import pickle
import re
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml
from samples import write_files
from shipped import TASKS

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.decoding import decode
from cxr_pipeline.data.manifest import REASONS
from cxr_pipeline.data.sources import LAYOUTS, Listing, check_source
from cxr_pipeline.data.sources.listing import IMAGE_COLUMNS, list_rows
from cxr_pipeline.data.sources.readers import Reader
from cxr_pipeline.framework.config import Folders, Sources

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "layouts.md"


class Source(NamedTuple):
    """A sample that has been written and read."""

    layout: str
    sample: ModuleType
    path: Path
    options: dict[str, object]
    listing: Listing
    reader: Reader
    unpacked: Path

    def read(self, path=None):
        return LAYOUTS[self.layout].read(path or self.path, **self.options)


def write(sample, layout, folder):
    """Write a sample, and pass its options through the configuration as a run does."""
    path, options = sample.write(folder)
    sources = Sources.model_validate({"images": {"layout": layout, "path": str(path), **options}})
    return path, sources.root["images"].options


@pytest.fixture(scope="module", params=sorted(LAYOUTS))
def source(request, tmp_path_factory):
    layout = request.param
    sample, place = importlib.import_module(f"samples.{layout}"), tmp_path_factory.mktemp(layout)
    path, options = write(sample, layout, place / "images")
    listing = LAYOUTS[layout].read(path, **options)
    reader = LAYOUTS[layout].reader(path, unpacked=place / "unpacked", **options)
    return Source(layout, sample, path, options, listing, reader, place / "unpacked")


def content_of(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_every_layout_is_documented():
    text = GUIDE.read_text("utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S)]
    of_tasks = [block[task]["sources"] for block in blocks for task in TASKS if task in block]
    alone = [block for block in blocks if not set(TASKS) & set(block)]
    shown = [Sources.model_validate(block) for block in of_tasks + alone]
    assert {source.layout for sources in shown for source in sources.root.values()} == set(LAYOUTS)


def test_every_row_is_listed_or_refused_with_a_known_reason(source):
    listing = source.listing
    assert listing.n_rows == source.sample.N_ROWS
    assert list(listing.refused) == ["image", "reason", "detail"]
    assert listing.refused.notna().all(axis=None)
    assert set(listing.refused["reason"]) <= set(REASONS)


def test_columns_and_types(source):
    images = source.listing.images
    assert len(images) >= 6
    assert images["labels"].nunique() >= 2
    for table in (images, list_rows(pd.DataFrame({"image": []})).images):
        assert {name: str(dtype) for name, dtype in table.dtypes.items()} == IMAGE_COLUMNS
    assert images.index.equals(pd.RangeIndex(len(images)))
    assert images[["image", "path"]].notna().all(axis=None)
    assert set(images["given_split"].dropna()) <= {"train", "validation", "test"}
    assert set(images["sex"].dropna()) <= {"F", "M"}
    assert images["age"].dropna().between(0, 120).all()
    for column in set(IMAGE_COLUMNS) - {"labels", "age"}:
        assert not (images[column] == "").any(), f"expected null in {column} where nothing is known"
    for column in ("labels", "uncertain", "unknown"):
        used = {label for text in images[column].dropna() if text for label in text.split("|")}
        # Folders of classes do not know their labels.
        assert used <= source.listing.vocabulary or source.layout == "class_folders"


def test_images_are_unique_sorted_and_inside_the_source(source):
    images = source.listing.images
    assert images["image"].tolist() == sorted(set(images["image"]))
    assert images["path"].is_unique
    for text in [*images["image"], *images["path"]]:
        assert not text.startswith("/")
        assert ".." not in text.split("/")
        assert "\\" not in text
    everything = images.to_csv() + source.listing.refused.to_csv() + "".join(source.listing.notes)
    assert str(source.path.parent) not in everything


def test_the_listing_depends_only_on_the_content(source, tmp_path):
    path, options = write(source.sample, source.layout, tmp_path / "elsewhere")
    for listing in (source.read(), LAYOUTS[source.layout].read(path, **options)):
        for field in fields(Listing):
            first, second = (getattr(each, field.name) for each in (source.listing, listing))
            assert first.equals(second) if isinstance(first, pd.DataFrame) else first == second, field.name


def test_reading_does_not_change_the_source(source, tmp_path):
    path, options = write(source.sample, source.layout, tmp_path / "new")
    if getattr(source.sample, "DRAWS", False):
        LAYOUTS[source.layout].read(path, **options)
    folder, folders = path if path.is_dir() else path.parent, {name: tmp_path / name for name in Folders.model_fields}
    before = content_of(folder)
    block = Sources.model_validate({"images": {"layout": source.layout, "path": str(path), **options}}).root["images"]
    images = block.list_images(Folders(**folders)).images
    block.reader(Folders(**folders)).read(images["path"].iloc[0])
    assert content_of(folder) == before


def test_images_are_decoded_from_the_same_bytes_in_every_process(source):
    unpickled = pickle.loads(pickle.dumps(source.reader))
    assert unpickled == source.reader
    again = LAYOUTS[source.layout].reader(source.path, unpacked=source.unpacked, **source.options)
    for path in source.listing.images["path"]:
        content = source.reader.read(path)
        assert content == unpickled.read(path) == again.read(path)
        assert source.reader.version(path)[0] > 0
        grey = decode(content, max_megapixels=1)
        assert grey.dtype == np.uint8
        assert grey.ndim == 2


def test_a_missing_source(source, tmp_path):
    check = partial(check_source, "images", source.layout, classes={"ill": ("ill",)}, task="effusion")
    check(source.path)
    if getattr(source.sample, "DRAWS", False):
        check(tmp_path / "absent")
        return
    absent = tmp_path / "absent" / source.path.name
    for use in (source.read, check):
        with pytest.raises(UserError) as error:
            use(absent)
        assert str(absent) in str(error.value)
    if source.layout == "label_table":
        return  # any file may be an image
    (tmp_path / "readme.txt").write_text("nothing yet")
    with pytest.raises(UserError, match=r"effusion\.sources\.images\.path: no images in .*readme\.txt") as error:
        check(tmp_path)
    assert "{" not in str(error.value)


check_effusion = partial(check_source, "images", classes={"none": ["none"], "effusion": ["effusion"]}, task="effusion")


@pytest.mark.parametrize(
    ("layout", "file", "path", "message"),
    [
        ("class_folders", "other", "effusion", r"no folder at .*/effusion; expected one folder per class \(none, effu"),
        ("class_folders", "images", "images", "the file .*images is damaged or not in this layout; expected one"),
        ("medmnist", "a.npz", "a.npz", "the file .*a.npz is damaged or not in this layout; expected one"),
        ("class_folders", "raw", "raw/effusion", "/raw is a file, not a folder with effusion in it; expected"),
        ("nih", "Data_Entry_2017.csv", ".", "no images in .*Data_Entry"),
        ("chexpert", "train.csv", ".", "no images in .*train"),
        ("label_table", "labels.csv.gz", ".", "no images in .*labels"),
        ("class_folders", "train/ill/list.txt", ".", "no images in .*train"),
    ],
)
def test_the_message_about_a_source_without_images(tmp_path, layout, file, path, message):
    write_files(tmp_path, file, ".DS_Store")
    with pytest.raises(UserError, match=rf"effusion\.sources\.images\.path: .*{message}") as error:
        check_effusion(layout, tmp_path / path)
    assert "--params raw=/path/to/images (the folder that " in str(error.value)
    assert "kedro fetch" not in str(error.value)


def test_the_message_about_a_missing_public_collection_says_how_to_download_it(tmp_path):
    with pytest.raises(UserError, match=r"no folder at .*/nih; .* Or download it: kedro fetch nih\.$"):
        check_effusion("nih", tmp_path / "nih")


def test_an_unreadable_folder(tmp_path, monkeypatch):
    def deny(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", deny)
    with pytest.raises(UserError, match=r"images\.path: .* cannot be read \(Permission denied\); expected a release"):
        check_effusion("nih", tmp_path)


@pytest.mark.parametrize(
    ("layout", "table", "link"),
    [("class_folders", "notes.txt", "ill"), ("nih", "Data_Entry_2017.csv", "images_01"), ("label_table", "t.csv", "x")],
)
def test_a_link_to_a_folder_may_hold_images_and_is_not_followed(tmp_path, layout, table, link):
    write_files(tmp_path, f"source/{table}", "elsewhere/notes.csv")
    (tmp_path / "source" / link).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    check_effusion(layout, tmp_path / "source")
