import pytest
from pydantic import ValidationError

from cxr_pipeline.framework.config import Tuning
from cxr_pipeline.framework.invalid_parameters import PYDANTIC_ERROR


def tuning(space, **changed):
    values = {"n_trials": 3, "storage": None, "seed": 1, "pruner": {"name": "median"}, "space": space, **changed}
    return Tuning(**values)


def test_a_nested_space_gets_dotted_names_and_values_of_the_type_of_their_field():
    space = {
        "model": {"dropout": {"low": 0, "high": 0.6}, "head_units": {"low": 0, "high": 256, "step": 64}},
        "training": {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "fine_tuning": {"cut": {"choices": [None, "pool4_pool"]}, "learning_rate": None},
            "patience": {"choices": [None, 5]},
            "loss": {"choices": ["focal"]},
        },
        "augmentation": {"flip": {"choices": [True, False]}},
        "resampling": None,
    }
    flat = tuning(space).space
    assert flat == {
        "model.dropout": {"low": 0.0, "high": 0.6},
        "model.head_units": {"low": 0, "high": 256, "step": 64},
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "training.fine_tuning.cut": {"choices": [None, "pool4_pool"]},
        "training.patience": {"choices": [None, 5]},
        "training.loss": {"choices": ["focal"]},
        "augmentation.flip": {"choices": [True, False]},
    }
    assert type(flat["model.dropout"]["low"]) is float
    assert type(flat["model.head_units"]["low"]) is int
    assert tuning({"model.dropout": {"low": 0, "high": 0.6}}).space == {"model.dropout": {"low": 0.0, "high": 0.6}}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"training": {"learning_rat": {"low": 1, "high": 2}}},
         "no parameter training.learning_rat can be searched over (did you mean training.learning_rate?)"),
        ({"qqq": {"low": 1, "high": 2}}, "no parameter qqq can be searched over; expected one of model.name, "),
        ({"training": {"monitor": {"choices": ["val_auc"]}}}, "training.monitor defines the value of a trial"),
        ({"model": {"dropout": {"low": 0.5, "high": 0.5}}}, "model.dropout: expected low below high, found low 0.5"),
        ({"model": {"dropout": {"low": 0, "high": 1}}}, "model.dropout: should be less than 1, found 1"),
        ({"model": {"dropout": {"low": 0, "high": 0.5, "log": True}}}, "expected low above 0 on a logarithmic axis"),
        ({"model": {"dropout": {"low": 0.1}}}, "expected low and high, optionally log or step, or choices; found {"),
        ({"model": {"dropout": {"low": 0.1, "high": float("nan")}}}, "model.dropout: "),
        ({"model": {"head_units": {"low": 0.5, "high": 64}}}, "should be a valid integer"),
        ({"model": {"head_units": {"low": 0, "high": 64, "step": 6.4}}}, "expected step to be an integer above 0"),
        ({"model": {"head_units": {"low": 0, "high": 64, "step": 65}}}, "at most high - low, found 65"),
        ({"augmentation": {"flip": {"low": 0, "high": 1}}}, "expected numbers for low and high, found 0; use choices"),
        ({"training": {"loss": {"choices": ["focal", "hinge"]}}}, "found 'hinge'"),
        ({"model": {"name": {"choices": ["densenet"]}}}, "(did you mean 'densenet121'?)"),
        ({"training": {"loss": {"choices": []}}}, "training.loss: expected a list of choices, found []"),
        ({"training": {"loss": {"choices": ["focal", "focal"]}}}, "expected distinct choices"),
        ({"morphology": {"steps": {"choices": [[]]}}}, "expected choices that are numbers, text, true, false or null"),
        ({"training": {"loss": None}}, "expected at least one parameter to search over, found none"),
    ],
)  # fmt: skip
def test_an_invalid_space_is_reported(space, message):
    with pytest.raises(ValidationError) as caught:
        tuning(space)
    ((place, text, *_),) = PYDANTIC_ERROR.findall(str(caught.value))
    assert place == "space"
    assert message in text


def test_the_url_of_the_database_is_hidden():
    made = tuning({"model": {"dropout": {"low": 0, "high": 0.5}}}, storage="postgresql://me:secret@host/studies")
    assert "secret" not in f"{made!r}{made.model_dump(mode='json')}"
    assert made.storage.get_secret_value() == "postgresql://me:secret@host/studies"
