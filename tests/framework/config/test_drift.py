import pytest
from pydantic import ValidationError

from cxr_pipeline.framework.config import Drift

LIMITS = {name: {"warn": 0.2, "refuse": 0.5} for name in ("pixels", "features", "scores", "prevalence", "calibration")}
DRIFT = {
    "folder": None,
    "source": None,
    "model": None,
    "batch_size": 8,
    "alpha": 0.01,
    "min_images": 30,
    "max_images": 100,
    "limits": LIMITS,
    "seed": 0,
}


def test_images_come_from_a_folder_or_a_source() -> None:
    source = {"layout": "class_folders", "path": "new"}
    assert Drift(**{**DRIFT, "source": source}).source.layout == "class_folders"
    assert Drift(**{**DRIFT, "folder": "/new"}).source is None
    with pytest.raises(ValidationError, match="either folder or source, found both"):
        Drift(**{**DRIFT, "folder": "/new", "source": source})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limits": {**LIMITS, "pixels": {"warn": 0.5, "refuse": 0.2}}}, "refuse must not be below warn"),
        ({"limits": {**LIMITS, "pixel": LIMITS["pixels"]}}, "pixel"),
        ({"limits": {**LIMITS, "scores": {"warn": -0.1, "refuse": None}}}, "greater than or equal to 0"),
        ({"alpha": 1}, "alpha"),
        ({"min_images": 3}, "min_images"),
    ],
)
def test_an_invalid_value_is_refused(wrong, message) -> None:
    with pytest.raises(ValidationError, match=message):
        Drift(**{**DRIFT, **wrong})


def test_a_limit_can_be_switched_off() -> None:
    limits = {**LIMITS, "prevalence": {"warn": 0.2, "refuse": None}}
    assert Drift(**{**DRIFT, "limits": limits}).limits.prevalence.refuse is None
