import numpy as np
import pytest
from kedro.io import DatasetError

from cxr_pipeline.framework.datasets.keras_model import KerasModelDataset


def test_round_trip_missing_and_overwrite(tmp_path) -> None:
    import keras

    dataset = KerasModelDataset(filepath=str(tmp_path / "model.keras"))
    with pytest.raises(DatasetError):
        dataset.load()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    dataset.save(model)
    dataset.save(model)
    ask = np.ones((3, 2), np.float32)
    np.testing.assert_array_equal(dataset.load()(ask), model(ask))
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_code_in_a_file_is_not_run(tmp_path) -> None:
    import keras

    dataset = KerasModelDataset(filepath=str(tmp_path / "model.keras"))
    dataset.save(keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]))
    with pytest.raises(DatasetError, match=r"(?i)lambda"):
        dataset.load()


def test_another_suffix_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"ends in \.keras"):
        KerasModelDataset(filepath="model.h5")
