import pandas as pd
import pytest
from manifests import images

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.pretraining import collection_of, read_list, seen_images, shared_sources


@pytest.mark.parametrize(
    ("trained_on", "shared"),
    [
        (["nih"], ["a", "unknown"]),
        (["rsna", "mimic"], ["a", "unknown"]),
        (["ChestMNIST_224"], ["a", "unknown"]),
        (["chexpert"], ["b", "unknown"]),
        ([], []),
    ],
)
def test_sources_may_share_images_with_collections_of_the_same_origin(trained_on, shared):
    assert shared_sources(trained_on, {"a": "nih", "b": "chexpert", "unknown": None, "c": "phantoms"}) == shared


def test_the_collection_of_a_source_is_that_of_its_layout_or_of_its_download(tmp_path):
    record = tmp_path / "medmnist" / ".fetched" / "chestmnist_64.npz.json"
    record.parent.mkdir(parents=True)
    record.touch()
    assert collection_of("nih", tmp_path) == "nih"
    assert collection_of("medmnist", tmp_path / "medmnist" / "chestmnist_64.npz") == "nih"
    assert collection_of("class_folders", tmp_path) is None


MANIFEST = pd.concat(
    [images(["01", "01", "2", "3", None], source="a"), images(["1", "4"], source="b", start=5)], ignore_index=True
).assign(image=lambda table: "folder/" + table["image"])
# The first image of patient 01 is a training image.
SPLITS = MANIFEST[["source", "image", "sha256", "patient_id"]].assign(split=["train", *["test"] * 6])


@pytest.mark.parametrize(
    ("lists", "seen"),
    [
        ({}, []),
        ({"images": {"2.png", "none.png"}}, [2]),
        ({"images": {f"{4:064x}"}}, [4]),
        ({"images": {"0.png"}}, [1]),  # another image of the patient
        ({"patients": {"1", "0003"}}, [1, 3]),
        ({"images": {"6.png"}, "patients": {"4"}}, []),  # of a source that is not concerned
    ],
)
def test_test_images_in_a_list_and_others_of_their_patients_were_seen(lists, seen):
    assert seen_images(MANIFEST, SPLITS, sources=["a"], **lists) == [f"{number:064x}" for number in seen]


def test_lists_have_a_name_in_each_line(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text("\ufeff/data/images/1.png,Effusion\n\n  2.png \nC:\\images\\3.png\n", "utf-8")
    assert read_list(file) == {"1.png", "2.png", "3.png"}
    with pytest.raises(UserError, match=r"absent\.csv cannot be read: it does not exist"):
        read_list(tmp_path / "absent.csv")
