import pytest

from cxr_pipeline import tracking


@pytest.mark.parametrize(("phantom", "name"), [(False, "cxr-effusion"), (True, "cxr-effusion-demo")])
def test_phantoms_have_names_of_their_own(phantom: bool, name: str) -> None:
    assert tracking.model_name("effusion", phantom=phantom) == name
    assert tracking.experiment_name("effusion", phantom=phantom) == name
