from typing import Any

import pytest

from cxr_pipeline.training.settings import FineTuningSettings, TrainingSettings

SETTINGS: dict[str, Any] = {
    **{"loss": "cross_entropy", "optimizer": "adam", "learning_rate": 1e-3, "schedule": "constant"},
    **{"weight_decay": 0.0, "head_weight_decay": 1.0, "epochs": 2, "batch_size": 8, "monitor": "val_auc"},
    **{"tolerance": 0.01, "patience": None, "mixed_bfloat16": False, "seed": 0},
    "fine_tuning": {"cut": None, "epochs": 1, "learning_rate": 1e-4, "batch_size": 8},
}


def test_settings_are_built_from_nested_parameters() -> None:
    assert TrainingSettings.from_dict(SETTINGS).fine_tuning == FineTuningSettings(None, 1, 1e-4, 8)
    with pytest.raises(TypeError, match="momentum"):
        TrainingSettings.from_dict(SETTINGS | {"momentum": 0.9})
