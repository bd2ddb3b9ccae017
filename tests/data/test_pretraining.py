import pandas as pd
import pytest
from manifests import images

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.pretraining import collection_of, listed_images, read_list, shared_sources, without_seen


@pytest.mark.parametrize(
    ("trained_on", "shared"),
    [
        (["nih"], ["a", "unknown"]),
        (["rsna", "mimic"], ["a", "unknown"]),
        (["ChestMNIST_224"], ["a", "unknown"]),
        (["chexpert"], ["b", "unknown"]),
        (["CheXpert-v1.0"], ["b", "unknown"]),
        (["ChestX-ray14"], ["a", "unknown"]),
        (["padchest"], ["unknown"]),
        ([], ["a", "b", "unknown"]),
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


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({}, []),
        ({"images": {"2.png", "none.png"}}, [2]),
        ({"images": {"folder/2.png"}}, [2]),
        ({"images": {"/data/folder/2.png", "elsewhere/3.png"}}, [2]),
        ({"images": {f"{4:064X}"}}, [4]),
        ({"images": {"0.png"}}, [0, 1]),  # another image of the patient
        ({"patients": {"1", "0003"}}, [0, 1, 3, 5]),
    ],
)
def test_images_in_a_list_and_others_of_their_patients_are_found(lists, expected):
    assert MANIFEST.index[listed_images(MANIFEST, **lists)].tolist() == expected


def test_a_name_that_several_images_have_is_refused_without_its_folder():
    names = [f"patient{number}/study1/view1_frontal.jpg" for number in range(7)]
    manifest = MANIFEST.assign(image=names, patient_id=None)
    found = listed_images(manifest, images={"CheXpert/train/patient3/study1/view1_frontal.jpg"})
    assert manifest.index[found].tolist() == [3]
    with pytest.raises(UserError, match=r"names view1_frontal\.jpg, but several images of a source have this name"):
        listed_images(manifest, images={"view1_frontal.jpg"})


def test_lists_have_a_name_in_each_line(tmp_path):
    file = tmp_path / "list.csv"
    file.write_text('\ufeff/data/images/1.png,Effusion\n\n  2.png \nC:\\images\\3.png\n"4.png"\npatient5/\n', "utf-8")
    assert read_list(file) == {"data/images/1.png", "2.png", "C:/images/3.png", "4.png", "patient5"}
    with pytest.raises(UserError, match=r"absent\.csv cannot be read: it does not exist"):
        read_list(tmp_path / "absent.csv")
    for content, reason in ((b"", "it is empty"), (b"\xff\xfe\x00", "can't decode")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"list\.csv cannot be read: .*{reason}.* Expected a text file"):
            read_list(file)


def test_test_images_that_were_seen_are_left_out():
    assert without_seen(MANIFEST, {"seen": [f"{3:064x}"]}).index.tolist() == [0, 1, 2, 4, 5, 6]
    assert without_seen(MANIFEST, {}).equals(MANIFEST)
