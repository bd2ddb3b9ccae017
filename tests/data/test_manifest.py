"""Tests of manifest, quarantine and data report."""

import json
import math

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.manifest import REASONS, check_quarantine, data_report, finalise, list_images
from cxr_pipeline.data.sources.labels import LabelMap
from cxr_pipeline.data.sources.listing import list_rows
from cxr_pipeline.data.sources.readers import FileReader

CLASSES = {"nofinding": ("No Finding", "normal"), "effusion": ("Effusion",)}
LABELS = LabelMap(CLASSES, task="effusion")
SEVERAL = LabelMap({"fluid": ("Effusion",), "mass": ("Mass",)}, exclusive=False)
NOTHING_REFUSED = pd.DataFrame(columns=["sha256", "reason", "detail"], dtype="str")


def write_images(folder, images, contents=None):
    """Write images with the given labels; the content of an image is its name unless given."""
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((contents or {}).get(name, name.encode()))
    columns = {"image": list(images), "path": list(images), "labels": list(images.values())}
    return list_rows(pd.DataFrame(columns), vocabulary=frozenset({"Mass", "Effusion", "No Finding"}))


def list_one(folder, images, contents=None, labels=LABELS):
    """Write one source, unless it is already a listing, and list it."""
    listing = write_images(folder, images, contents) if isinstance(images, dict) else images
    return list_images({"images": (FileReader(folder), listing)}, labels=labels)


def refused_as(refused):
    return dict(zip(refused["image"], refused["reason"], strict=True))


def test_rows_are_refused_left_out_or_kept(tmp_path):
    images = {"kept.png": "Effusion", "well.png": "normal", "left_out.png": "Mass", "unlabelled.png": None}
    images |= {"unknown.png": "Effusion|Broken rib", "both.png": "Effusion|No Finding", "empty.png": "Effusion"}
    kept, refused, counts = list_one(tmp_path, images, {"empty.png": b""})
    assert kept["image"].tolist() == ["kept.png", "well.png"]
    unknown = dict.fromkeys(["unknown.png", "unlabelled.png"], "unknown_label")
    assert refused_as(refused) == {**unknown, "both.png": "contradicting_labels", "empty.png": "empty"}
    assert counts["images"] == {"rows_in_source": 7, "left_out": {"other_classes": 1}, "not_on_disk": 0, "notes": []}


def test_the_first_of_identical_images_is_kept(tmp_path):
    same = dict.fromkeys(["a.png", "b.png", "z.png"], b"same")
    one = write_images(tmp_path / "one", {"z.png": "Effusion", "n.png": "normal"}, same)
    two = write_images(tmp_path / "two", {"a.png": "Effusion", "b.png": "Effusion"}, same)
    images, refused, _ = list_images(
        {"one": (FileReader(tmp_path / "one"), one), "two": (FileReader(tmp_path / "two"), two)}, labels=LABELS
    )
    assert images["image"].tolist() == ["n.png", "z.png"]
    duplicate = ["exact_duplicate", "the same image as one: z.png"]
    assert refused.to_numpy().tolist() == [["two", "a.png", *duplicate], ["two", "b.png", *duplicate]]


def test_an_image_may_have_any_number_of_several_classes(tmp_path):
    images = {"a.png": "Effusion|Mass", "b.png": "No Finding", "c.png": "Mass"}
    listing = write_images(tmp_path, images)
    listing.images["uncertain"] = pd.Series([None, None, "Effusion"], dtype="str")
    kept, refused, counts = list_one(tmp_path, listing, labels=SEVERAL)
    assert kept["label_mass"].tolist() == [1.0, 0.0, 1.0]
    assert kept["label_fluid"].tolist() == pytest.approx([1.0, 0.0, math.nan], nan_ok=True)
    manifest, quarantine = finalise(kept, refused, NOTHING_REFUSED, SEVERAL)
    report = data_report(manifest, quarantine, counts, classes=tuple(SEVERAL.classes), phantom=False)
    assert report["classes"] == {"fluid": 1, "mass": 2}
    assert report["unknown_labels"] == {"fluid": 1}


def test_identical_images_with_different_labels_are_refused(tmp_path):
    images = {"a.png": "Mass", "b.png": "Mass", "c.png": "Mass|Effusion", "d.png": "Mass", "e.png": "No Finding"}
    listing = write_images(tmp_path, images, {"a.png": b"1", "b.png": b"1", "c.png": b"2", "d.png": b"2"})
    listing.images["uncertain"] = pd.Series(["Effusion", "Effusion", None, None, None], dtype="str")
    kept, refused, _ = list_one(tmp_path, listing, labels=SEVERAL)
    assert kept["image"].tolist() == ["a.png", "e.png"]
    contradicting = dict.fromkeys(["c.png", "d.png"], "contradicting_labels")
    assert refused_as(refused) == {"b.png": "exact_duplicate", **contradicting}
    for image, detail in zip(refused["image"], refused["detail"], strict=True):
        assert image not in detail  # but the other image with the same content


@pytest.mark.parametrize(
    ("label_map", "images", "message"),
    [
        (LABELS, {"a.png": "Effusion"}, "only one class has images: found 0 of nofinding, 1 of effusion"),
        (
            LABELS,
            {"a.png": "normal", "b.png": "Mass"},
            r"found 1 of nofinding(.|\n)*of no class: 'Mass' \(1\)",
        ),
        (LABELS, {}, "there are no usable images"),
        (LABELS, dict.fromkeys("ab", "sick"), r"no usable images(.|\n)*Labels of no class: 'sick' \(2\)"),
        (SEVERAL, {"a.png": "Mass|Effusion"}, "no class has both .* found 1 positive and 0 negative for fluid, .*some"),
        (SEVERAL, {"a.png": "No Finding"}, r"no class has both .* found 0 positive and 1 negative for fluid"),
    ],
)
def test_too_few_classes(tmp_path, label_map, images, message):
    with pytest.raises(UserError, match=message):
        list_one(tmp_path, images, labels=label_map)


@pytest.mark.parametrize("others", [{}, {"a.png": "Effusion", "b.png": "normal"}])
def test_a_source_without_any_of_its_images(tmp_path, others):
    listing = list_rows(pd.DataFrame({"image": ["0", "1"], "labels": ["Effusion", "normal"]}))
    listings = {"here": (FileReader(tmp_path), write_images(tmp_path, others))} if others else {}
    message = r"effusion\.sources\.t: 2 of 2 rows name images that are not on disk, such as '0'"
    with pytest.raises(UserError, match=message):
        list_images({**listings, "t": (FileReader(tmp_path), listing)}, labels=LABELS)


def test_undecodable_images_are_quarantined_and_must_leave_enough_classes(tmp_path):
    files = {"a.png": "Effusion", "b.png": "normal", "c.png": "sick", "d.png": "Effusion"}
    images, refused, _ = list_one(tmp_path, files)
    bad = images[["sha256"]].assign(reason="truncated", detail="ends early")
    manifest, quarantine = finalise(images, refused, bad[:1], LABELS)
    assert manifest["image"].tolist() == ["b.png", "d.png"]
    assert quarantine.to_numpy().tolist()[0] == ["images", "a.png", "truncated", "ends early"]
    assert refused_as(quarantine) == {"a.png": "truncated", "c.png": "unknown_label"}
    with pytest.raises(UserError, match=r"only one class has images: found 0 of nofinding.*1 truncated"):
        finalise(images, refused, bad[1:2], LABELS)


def test_too_many_refused_images():
    manifest = pd.DataFrame({"image": ["x"] * 17})
    quarantine = pd.DataFrame({"image": ["bad image.png"] * 3, "reason": "truncated", "detail": "ends early"})
    check_quarantine(manifest, quarantine, LABELS, max_fraction=3 / 20)
    with pytest.raises(UserError, match=r"3 of 20 .*3 truncated \(such as 'bad image.png': ends early\)") as error:
        check_quarantine(manifest, quarantine, LABELS, max_fraction=0.1)
    offered = float(str(error.value).rpartition("effusion.ingestion.max_quarantined_fraction=")[2])
    check_quarantine(manifest, quarantine, LABELS, max_fraction=offered)


def test_unknown_labels_are_all_named_with_what_to_paste():
    labels = LabelMap({"well": ("normal",), "ill": ("Effusion",)}, left_out=("old",), task="effusion")
    texts = ["normals", "rib", "rib|normals", "Effusion", "b c"]
    nothing = dict.fromkeys(("uncertain", "unknown", "outvoted"))
    images = pd.DataFrame({"image": texts, "labels": texts, **nothing}, dtype="str")
    refused = images.join(labels.apply(images, ["normals"])[["reason", "detail"]]).dropna(subset="reason")
    with pytest.raises(UserError, match=r"Labels of no class: 'normals' \(2\), 'rib' \(2\)") as error:
        check_quarantine(images, refused, labels, max_fraction=0.1)
    *_, block = str(error.value).splitlines()
    assert yaml.safe_load(block) == {"effusion": {"task": {"left_out": ["old", "normals", "rib", "b c"]}}}


def test_data_report(tmp_path):
    names = ["1.png", "2.png", "3.png", "4.png"]
    write_images(tmp_path, dict.fromkeys(names, ""))
    columns = {"image": names, "path": names, "labels": ["Effusion", "normal", "normal", "sick"]}
    columns |= {"patient_id": ["patient-of-1", "patient-of-1", None, "patient-of-4"]}
    columns |= {"age": [30.0, 50.0, None, 70.0], "sex": ["F", "M", None, "F"]}
    refused_row = pd.DataFrame({"image": ["5.png"], "reason": "outside_source", "detail": ""})
    missing_rows = pd.DataFrame({"image": [f"gone{i}.png" for i in range(7)]})
    rows = pd.concat([pd.DataFrame(columns), refused_row, missing_rows])
    images, refused, counts = list_one(tmp_path, list_rows(rows, notes=("A note.",), n_left_out=3))
    tables = finalise(images, refused, NOTHING_REFUSED, LABELS)
    report = data_report(*tables, counts, classes=tuple(CLASSES), phantom=True)
    of_rows = {"rows_in_source": 15, "left_out": {"by_layout": 3}, "rows_read": 12, "not_on_disk": 7}
    of_images = {"manifest": 3, "quarantine": {"outside_source": 1, "unknown_label": 1}, "notes": ["A note."]}
    of_images |= {"n_patients": 1, "has_patients": True}
    assert report["sources"] == {"images": of_rows | of_images}
    expected = {"phantom": True, "n_images": 3, "n_patients": 1, "n_images_without_patient": 1}
    expected |= {"classes": {"nofinding": 2, "effusion": 1}, "sex": {"F": 1, "M": 1, "unknown": 1}}
    assert expected.items() <= report.items()
    assert "unknown_labels" not in report
    assert (report["age"]["n_known"], report["age"]["median"], report["age"]["highest"]) == (2, 40.0, 50.0)
    assert "patient-of" not in json.dumps(report, allow_nan=False)


def test_the_data_digest_depends_only_on_content_and_labels(tmp_path):
    images = {"a.png": b"one", "b.png": b"two", "y.png": b"two", "z.png": b"one"}

    def digest(labels):
        kept, refused, counts = list_one(tmp_path / "_".join([*labels, *labels.values()]), dict(labels), images)
        return data_report(kept, refused, counts, classes=(), phantom=False)["data_digest"]

    first = digest({"a.png": "Effusion", "b.png": "normal"})
    assert digest({"z.png": "Effusion", "y.png": "normal"}) == first
    assert digest({"a.png": "normal", "b.png": "Effusion"}) != first


texts, contents = st.sampled_from(["Effusion", "normal", "Mass", "sick", "Effusion|normal"]), st.sampled_from(range(6))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(texts, contents), max_size=12))
def test_rows_read_are_manifest_quarantine_and_missing(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("images")
    rows = [*rows, ("Effusion", 10), ("normal", 11)]
    images = {f"{number}.png": labels for number, (labels, _) in enumerate(rows)}
    # An image of no bytes is refused.
    contents = {f"{number}.png": content * b"1" for number, (_, content) in enumerate(rows)}
    kept, refused, counts = list_one(folder, images, contents)
    manifest, quarantine = finalise(kept, refused, NOTHING_REFUSED, LABELS)
    assert len(manifest) + len(quarantine) == sum(labels != "Mass" for labels, _ in rows)
    assert manifest["sha256"].is_unique
    assert set(quarantine["reason"]) <= set(REASONS)
    assert data_report(manifest, quarantine, counts, classes=tuple(CLASSES), phantom=False)["n_images"] == len(manifest)
