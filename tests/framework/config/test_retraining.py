from typing import Any

import pytest
from pydantic import ValidationError

from cxr_pipeline.framework.config import Retraining

RULE: dict[str, Any] = {
    "floors": {"auc": 0.6, "sensitivity": 0.5},
    "sensitivity_margin": 0.05,
    "auc_margin": 0.02,
    "improvement": "better",
    "max_relabelled_fraction": 0.05,
    "force": False,
}


def test_a_floor_that_is_null_is_switched_off() -> None:
    assert Retraining(**{**RULE, "floors": {"auc": 0.6, "sensitivity": None}}).floors == {"auc": 0.6}
    assert Retraining(**{**RULE, "floors": {"auc": None}}).floors == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"floors": {"brier": 0.2}},
        {"floors": {"auc": 1.1}},
        {"auc_margin": 2},
        {"improvement": "newest"},
        {"margin": 0.1},
    ],
)
def test_an_invalid_promotion_rule_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Retraining(**{**RULE, **changes})
