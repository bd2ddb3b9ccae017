import json

import pytest
from kedro.io import DatasetError

from cxr_pipeline.framework.datasets.document import BytesDataset, JSONDataset, TextDataset


@pytest.mark.parametrize(
    ("kind", "content"),
    [(JSONDataset, {"b": [1, None, "胸"], "a": 0.1}), (TextDataset, "<p>ä</p>\n"), (BytesDataset, b"\x89PNG\x00")],
)
def test_round_trip_missing_and_overwrite(tmp_path, kind, content) -> None:
    dataset = kind(filepath=str(tmp_path / "deep" / "file"))
    assert not dataset.exists()
    with pytest.raises(DatasetError):
        dataset.load()
    dataset.save(content)
    assert dataset.load() == content
    dataset.save(content)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


def test_json_keeps_the_order_and_refuses_nan_without_losing_the_old_file(tmp_path) -> None:
    dataset = JSONDataset(filepath=str(tmp_path / "metrics.json"))
    dataset.save({"z": 1, "a": 2})
    with pytest.raises(DatasetError, match="JSON compliant"):
        dataset.save({"auc": float("nan")})
    assert (tmp_path / "metrics.json").read_text() == json.dumps({"z": 1, "a": 2}, indent=2) + "\n"
