"""Tests of manifest, quarantine and data report, on real files."""

import json
import math
import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.manifest import REASONS, check_quarantine, data_report, finalise, list_images
from cxr_pipeline.data.sources import read_source
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.listing import Listing, image_table, refusal_table
from cxr_pipeline.data.sources.readers import FileReader

CLASSES = {"nofinding": ("No Finding", "normal"), "effusion": ("Effusion",)}
LABELS = LabelMap(CLASSES)
SEVERAL = LabelMap({"fluid": ("Effusion",), "mass": ("Mass",)}, exclusive=False)
NOTHING_REFUSED = pd.DataFrame(columns=["sha256", "reason", "detail"], dtype="str")


def write_images(folder: Path, images: dict[str, str | None], contents: dict[str, bytes] | None = None) -> Listing:
    """A source of images by name, with the labels of each; an image's content is its name unless given."""
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((contents or {}).get(name, name.encode()))
    columns = {"image": list(images), "path": list(images), "labels": list(images.values())}
    return Listing(image_table(columns), refusal_table([]), vocabulary=frozenset({"Mass", "Effusion", "No Finding"}))


def refused_as(refused: pd.DataFrame) -> dict[str, str]:
    return dict(zip(refused["image"], refused["reason"], strict=True))


def test_images_get_their_class_and_hash(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Effusion|Mass", "b.png": "normal"})
    images, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    assert images[["source", "image", "label_nofinding", "label_effusion"]].to_numpy().tolist() == [
        ["images", "a.png", 0.0, 1.0],
        ["images", "b.png", 1.0, 0.0],
    ]
    assert images["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert refused.empty


def test_rows_are_refused_left_out_or_kept(tmp_path: Path) -> None:
    images = {
        "kept.png": "Effusion",
        "well.png": "normal",
        "left_out.png": "Mass",
        "unknown.png": "Effusion|Broken rib",
        "both.png": "Effusion|No Finding",
        "empty.png": "Effusion",
        "unlabelled.png": None,
    }
    listing = write_images(tmp_path, images, contents={"empty.png": b""})
    kept, refused, counts = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    assert kept["image"].tolist() == ["kept.png", "well.png"]
    assert refused_as(refused) == {
        "unknown.png": "unknown_label",
        "unlabelled.png": "unknown_label",
        "empty.png": "empty",
    }
    assert counts["images"] == {
        "rows_in_source": 7,
        "left_out": {"other_classes": 1, "several_classes": 1},
        "not_on_disk": 0,
        "notes": [],
    }


def test_of_same_images_the_first_is_kept_across_sources(tmp_path: Path) -> None:
    same = dict.fromkeys(["a.png", "b.png", "z.png"], b"same")
    one = write_images(tmp_path / "one", {"z.png": "Effusion", "n.png": "normal"}, same)
    two = write_images(tmp_path / "two", {"a.png": "Effusion", "b.png": "Effusion"}, same)
    images, refused, _ = list_images(
        {"one": (FileReader(tmp_path / "one"), one), "two": (FileReader(tmp_path / "two"), two)}, labels=LABELS
    )
    assert images["image"].tolist() == ["n.png", "z.png"]
    assert refused_as(refused) == {"a.png": "exact_duplicate", "b.png": "exact_duplicate"}
    assert refused["source"].tolist() == ["two", "two"]
    assert refused["detail"].tolist() == ["the same image as one: z.png"] * 2


def test_one_image_under_two_classes_is_refused_everywhere(tmp_path: Path) -> None:
    images = {"a.png": "Effusion", "b.png": "normal", "c.png": "Effusion", "d.png": "Effusion", "e.png": "normal"}
    listing = write_images(tmp_path, images, dict.fromkeys(["a.png", "b.png", "c.png"], b"same"))
    kept, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    assert kept["image"].tolist() == ["d.png", "e.png"]
    assert refused_as(refused) == dict.fromkeys(["a.png", "b.png", "c.png"], "contradicting_labels")
    for image, detail in zip(refused["image"], refused["detail"], strict=True):
        assert image not in detail


def test_of_several_classes_a_image_may_have_any_number(tmp_path: Path) -> None:
    images = {"a.png": "Effusion|Mass", "b.png": "No Finding", "c.png": "Mass"}
    listing = write_images(tmp_path, images)
    listing.images["uncertain"] = pd.Series([None, None, "Effusion"], dtype="str")
    kept, refused, counts = list_images({"images": (FileReader(tmp_path), listing)}, labels=SEVERAL)
    assert kept["label_mass"].tolist() == [1.0, 0.0, 1.0]
    assert kept["label_fluid"].tolist() == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)
    manifest, quarantine = finalise(kept, refused, NOTHING_REFUSED, exclusive=False)
    report = data_report(manifest, quarantine, counts, classes=tuple(SEVERAL.classes), phantom=False)
    assert report["classes"] == {"fluid": 1, "mass": 2}
    assert report["unknown_labels"] == {"fluid": 1}


def test_of_same_images_with_several_classes_all_labels_are_compared(tmp_path: Path) -> None:
    images = {"a.png": "Mass", "b.png": "Mass", "c.png": "Mass|Effusion", "d.png": "Mass", "e.png": "No Finding"}
    listing = write_images(tmp_path, images, {"a.png": b"1", "b.png": b"1", "c.png": b"2", "d.png": b"2"})
    listing.images["uncertain"] = pd.Series(["Effusion", "Effusion", None, None, None], dtype="str")
    kept, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=SEVERAL)
    assert kept["image"].tolist() == ["a.png", "e.png"]
    assert refused_as(refused) == {
        "b.png": "exact_duplicate",
        "c.png": "contradicting_labels",
        "d.png": "contradicting_labels",
    }


def test_same_images_that_differ_in_what_is_known_of_them_contradict_each_other(tmp_path: Path) -> None:
    images = {"a.png": "Mass", "b.png": "No Finding", "c.png": "Mass", "d.png": "No Finding"}
    listing = write_images(tmp_path, images, {"a.png": b"1", "b.png": b"1"})
    listing.images["uncertain"] = pd.Series(["Effusion", "Effusion", None, None], dtype="str")
    _, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=SEVERAL)
    assert refused_as(refused) == dict.fromkeys(["a.png", "b.png"], "contradicting_labels")


@pytest.mark.parametrize("labels", ["Mass|Effusion", "No Finding"])
def test_of_several_classes_none_has_both_kinds(labels: str, tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": labels, "b.png": labels})
    with pytest.raises(UserError, match=r"no class has both .* found (2|0) with and (2|0) without fluid, .*some class"):
        list_images({"images": (FileReader(tmp_path), listing)}, labels=SEVERAL)


def test_settle_stops_when_nothing_is_left_to_tell_apart(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Mass", "b.png": "No Finding", "c.png": "Mass"})
    images, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=SEVERAL)
    bad = images[["sha256"]].assign(reason="truncated", detail="ends early")
    manifest, _ = finalise(images, refused, bad.iloc[2:], exclusive=False)
    assert len(manifest) == 2
    with pytest.raises(UserError, match=r"2 with and 0 without mass.*1 truncated"):
        finalise(images, refused, bad.iloc[1:2], exclusive=False)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_image_without_read_permission_is_refused(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Effusion", "b.png": "normal", "c.png": "normal"})
    (tmp_path / "c.png").chmod(0)
    _, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    assert refused_as(refused) == {"c.png": "unreadable"}


def test_one_class_only(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Effusion", "b.png": "Effusion"})
    with pytest.raises(UserError, match="only one class has images: found 0 of nofinding, 2 of effusion"):
        list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)


def test_no_image_at_all_says_why(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "sick", "b.png": "sick"})
    with pytest.raises(UserError, match=r"there are no usable images.*2 unknown_label \(such as 'a.png': .*'sick'"):
        list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)


def test_an_empty_source_says_so(tmp_path: Path) -> None:
    listing = Listing(image_table({"image": []}), refusal_table([]))
    with pytest.raises(UserError, match="there are no usable images"):
        list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)


def test_settle_divides_the_images(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Effusion", "b.png": "normal", "c.png": "sick", "d.png": "Effusion"})
    images, refused, _ = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    bad = images.loc[images["image"] == "a.png", ["sha256"]].assign(reason="truncated", detail="ends early")
    manifest, quarantine = finalise(images, refused, bad, exclusive=True)
    assert manifest["image"].tolist() == ["b.png", "d.png"]
    assert quarantine.to_numpy().tolist()[0] == ["images", "a.png", "truncated", "ends early"]
    assert refused_as(quarantine) == {"a.png": "truncated", "c.png": "unknown_label"}


def test_settle_stops_when_a_class_is_lost(tmp_path: Path) -> None:
    images, refused, _ = list_images(
        {"images": (FileReader(tmp_path), write_images(tmp_path, {"a.png": "Effusion", "b.png": "normal"}))},
        labels=LABELS,
    )
    bad = images.loc[:0, ["sha256"]].assign(reason="unreadable", detail="no image")
    with pytest.raises(UserError, match=r"only one class has images.*unreadable"):
        finalise(images, refused, bad, exclusive=True)


@pytest.mark.parametrize(("n_refused", "stops"), [(2, False), (3, True)])
def test_too_much_in_quarantine_stops(n_refused: int, stops: bool) -> None:
    manifest = pd.DataFrame({"image": ["x"] * (20 - n_refused)})
    quarantine = pd.DataFrame({"image": ["bad image.png"] * n_refused, "reason": "truncated", "detail": "ends early"})
    if not stops:
        check_quarantine(manifest, quarantine, max_fraction=0.1)
        return
    with pytest.raises(UserError) as error:
        check_quarantine(manifest, quarantine, max_fraction=0.1, task="effusion")
    told = str(error.value)
    assert "3 of 20 images" in told
    assert "3 truncated (such as 'bad image.png': ends early)" in told
    offered = float(told.rpartition("effusion.ingestion.max_quarantined_fraction=")[2])
    check_quarantine(manifest, quarantine, max_fraction=offered)


def test_data_report(tmp_path: Path) -> None:
    write_images(tmp_path, {"1.png": "", "2.png": "", "3.png": "", "4.png": ""})
    columns = {
        "image": ["1.png", "2.png", "3.png", "4.png"],
        "path": ["1.png", "2.png", "3.png", "4.png"],
        "labels": ["Effusion", "normal", "normal", "sick"],
        "patient_id": ["patient-of-1", "patient-of-1", None, "patient-of-4"],
        "age": [30.0, 50.0, None, 70.0],
        "sex": ["F", "M", None, "F"],
    }
    refused_rows = refusal_table([("5.png", "outside_source", "")])
    listing = Listing(image_table(columns), refused_rows, 7, ("A note.",), n_left_out=3)
    images, refused, counts = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    found = data_report(
        *finalise(images, refused, NOTHING_REFUSED, exclusive=True), counts, classes=tuple(CLASSES), phantom=True
    )
    assert found["sources"] == {
        "images": {
            "rows_in_source": 15,
            "left_out": {"by_layout": 3},
            "rows_read": 12,
            "not_on_disk": 7,
            "manifest": 3,
            "quarantine": {"outside_source": 1, "unknown_label": 1},
            "n_patients": 1,
            "has_patients": True,
            "notes": ["A note."],
        }
    }
    assert found["phantom"] is True
    assert (found["n_images"], found["n_patients"], found["n_images_without_patient"]) == (3, 1, 1)
    assert found["classes"] == {"nofinding": 2, "effusion": 1}
    assert "unknown_labels" not in found
    assert (found["age"]["n_known"], found["age"]["median"], found["age"]["highest"]) == (2, 40.0, 50.0)
    assert found["sex"] == {"F": 1, "M": 1, "unknown": 1}
    assert "patient-of" not in json.dumps(found, allow_nan=False)


def test_data_digest_follows_content_and_label_not_name_or_order(tmp_path: Path) -> None:
    images = {"a.png": b"one", "b.png": b"two", "y.png": b"two", "z.png": b"one"}

    def digest(labels: dict[str, str]) -> str:
        folder = tmp_path / "_".join([*labels, *labels.values()])
        listing = write_images(folder, dict(labels), images)
        rows = list_images({"images": (FileReader(folder), listing)}, labels=LABELS)
        return data_report(*finalise(*rows[:2], NOTHING_REFUSED, exclusive=True), rows[2], classes=(), phantom=False)[
            "data_digest"
        ]

    first = digest({"a.png": "Effusion", "b.png": "normal"})
    assert digest({"z.png": "Effusion", "y.png": "normal"}) == first
    assert digest({"a.png": "normal", "b.png": "Effusion"}) != first


def test_a_lost_row_is_noticed(tmp_path: Path) -> None:
    listing = write_images(tmp_path, {"a.png": "Effusion", "b.png": "normal", "c.png": "normal"})
    images, refused, counts = list_images({"images": (FileReader(tmp_path), listing)}, labels=LABELS)
    with pytest.raises(ValueError, match="3 rows read, but 2 accounted for"):
        data_report(images.iloc[:2], refused, counts, classes=tuple(CLASSES), phantom=False)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["Effusion", "normal", "Mass", "sick", "Effusion|normal"]),
            st.sampled_from([b"", b"1", b"2", b"3", b"4", b"5"]),
        ),
        max_size=12,
    )
)
def test_rows_read_are_manifest_quarantine_and_missing(
    rows: list[tuple[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("images")
    rows = [*rows, ("Effusion", b"sure"), ("normal", b"certain")]
    images = {f"{number}.png": labels for number, (labels, _) in enumerate(rows)}
    contents = {f"{number}.png": content for number, (_, content) in enumerate(rows)}
    kept, refused, counts = list_images(
        {"images": (FileReader(folder), write_images(folder, images, contents))}, labels=LABELS
    )
    manifest, quarantine = finalise(kept, refused, NOTHING_REFUSED, exclusive=True)
    n_left_out = sum(labels in ("Mass", "Effusion|normal") for labels, _ in rows)
    assert len(manifest) + len(quarantine) == len(rows) - n_left_out
    assert manifest["sha256"].is_unique
    assert set(quarantine["reason"]) <= set(REASONS)
    assert data_report(manifest, quarantine, counts, classes=tuple(CLASSES), phantom=False)["n_images"] == len(manifest)


def test_effusion(shared_data: Path) -> None:
    folder = shared_data / "effusion"
    classes = {"nofinding": ("nofinding",), "effusion": ("effusion",)}
    listing = read_source("class_folders", folder, patient_id="none")
    images, refused, _ = list_images({"images": (FileReader(folder), listing)}, labels=LabelMap(classes))
    assert images[["label_nofinding", "label_effusion"]].sum().tolist() == [396, 395]
    assert refused.empty


def test_kermany_has_identical_images(shared_data: Path) -> None:
    folder = shared_data / "kermany"
    classes = {"normal": ("NORMAL",), "pneumonia": ("PNEUMONIA",)}
    listing = read_source("class_folders", folder, patient_id=r"(person\d+)_|((?:NORMAL2-)?IM-\d+)")
    images, refused, _ = list_images({"images": (FileReader(folder), listing)}, labels=LabelMap(classes))
    assert len(images) == 5190
    assert refused["reason"].value_counts().to_dict() == {"exact_duplicate": 26}


def test_nih_without_the_images_of_other_findings(shared_data: Path) -> None:
    folder = shared_data / "nih"
    images, refused, counts = list_images({"nih": (FileReader(folder), read_source("nih", folder))}, labels=LABELS)
    assert counts["nih"]["rows_in_source"] == 112_120
    assert (
        len(images) + len(refused) + sum(counts["nih"]["left_out"].values()) + counts["nih"]["not_on_disk"] == 112_120
    )
    assert images[["label_nofinding", "label_effusion"]].sum().tolist() == [459, 130]


def test_nih_normal_against_anything_else(shared_data: Path) -> None:
    folder = shared_data / "nih"
    labels = LabelMap({"normal": ("No Finding",), "abnormal": ("*",)})
    images, refused, counts = list_images({"nih": (FileReader(folder), read_source("nih", folder))}, labels=labels)
    assert len(images) + len(refused) == 1245
    assert counts["nih"]["left_out"] == {}
    assert images[["label_normal", "label_abnormal"]].sum(axis=1).eq(1).all()
