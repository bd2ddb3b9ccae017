import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.deployment.drift.image_features import ImageFeatures, sample_one_per_patient

PATIENTS = st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=40)


def rows_of(patients: list[str | None], source: str | list[str] = "nih") -> pd.DataFrame:
    return pd.DataFrame({"source": source, "patient_id": pd.Series(patients, dtype="str")})


@given(PATIENTS, st.integers(0, 60), st.integers(0, 99))
def test_one_image_of_each_patient_is_sampled(patients, max_images, seed) -> None:
    rows = rows_of(patients)
    sample = sample_one_per_patient(rows, max_images=max_images, seed=seed)
    assert not sample["patient_id"].dropna().duplicated().any()
    assert sample.index.is_monotonic_increasing
    assert len(sample) == min(max_images, rows["patient_id"].nunique() + int(rows["patient_id"].isna().sum()))
    pd.testing.assert_frame_equal(sample, sample_one_per_patient(rows, max_images=max_images, seed=seed))


def test_the_sample_is_random() -> None:
    rows = rows_of(["a"] * 10 + ["b"] * 10)
    assert len({sample_one_per_patient(rows, max_images=2, seed=seed).index[0] for seed in range(50)}) > 5
    unknown = rows_of([None] * 20)
    assert len({tuple(sample_one_per_patient(unknown, max_images=3, seed=seed).index) for seed in range(20)}) > 15


def test_equal_ids_in_two_sources_are_two_patients() -> None:
    assert len(sample_one_per_patient(rows_of(["1", "1"], ["nih", "other"]), max_images=9, seed=0)) == 2


@pytest.mark.parametrize(("index", "shape"), [(3, (2, 1)), (3, (3, 2)), (4, (2,))])
def test_arrays_of_different_lengths_are_refused(index, shape) -> None:
    arrays = [np.zeros((3, n)) for n in (11, 5, 1, 1)] + [np.full(3, "")]
    assert len(ImageFeatures(*arrays)) == 3
    arrays[index] = np.full(shape, "")
    with pytest.raises(ValueError, match="same images and outputs"):
        ImageFeatures(*arrays)
