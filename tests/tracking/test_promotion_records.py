import mlflow
import pytest

from cxr_pipeline.tracking import aliases, promotion_records


@pytest.fixture
def version(new_model):
    return new_model(1), 1


def tags(name, version):
    return mlflow.MlflowClient().get_model_version(name, str(version)).tags


@pytest.mark.parametrize(("promoted", "word"), [(True, "promoted"), (False, "not promoted")])
def test_a_decision_is_noted_on_the_version_and_the_run(version, promoted, word):
    assert promotion_records.decided_version(version[0], "7" * 64) is None
    with mlflow.start_run() as run:
        promotion_records.note_reasons(*version, ["One.", "Two."], trained_by="7" * 64)
        assert promotion_records.decided_version(version[0], "7" * 64) is None
        promotion_records.note_decision(*version, promoted=promoted)
    noted = {"decision": word, "decision_reasons": "One. Two.", "decision_run": run.info.run_id}
    assert noted.items() <= tags(*version).items()
    of_run = mlflow.MlflowClient().get_run(run.info.run_id).data.tags
    assert (of_run["decision"], of_run["version"]) == (word, f"{version[0]} {version[1]}")
    assert promotion_records.decided_version(version[0], "7" * 64) == (version[1], word)
    assert promotion_records.decided_version(version[0], "8" * 64) is None


def test_an_interrupted_promotion_is_finished(version):
    name, number = version
    promotion_records.note_reasons(name, number, ["Better."], trained_by="7")
    aliases.promote(name, number, over=None)
    promotion_records.finish_decision(name, number)
    assert tags(name, number)["decision"] == "promoted"
    assert promotion_records.decided_version(name, "7") == (number, "promoted")


def test_an_interrupted_promotion_that_was_rolled_back_is_decided(version):
    name, number = version
    earlier = int(mlflow.MlflowClient().create_model_version(name, source="s3://nothing/nothing").version)
    aliases.promote(name, earlier, over=None)
    promotion_records.note_reasons(name, number, ["Better."], trained_by="7")
    aliases.promote(name, number, over=earlier)
    aliases.roll_back(name)
    promotion_records.finish_decision(name, earlier)
    assert promotion_records.decided_version(name, "7") == (number, "rolled back")
    assert tags(name, earlier) == {}


def test_a_decision_stays_until_the_version_is_decided_again(version):
    name, number = version
    promotion_records.finish_decision(name, number)
    assert tags(name, number) == {}
    promotion_records.note_reasons(name, number, ["Worse."], trained_by="7")
    promotion_records.note_decision(name, number, promoted=False)
    promotion_records.finish_decision(name, number)
    assert tags(name, number)["decision"] == "not promoted"
    promotion_records.note_reasons(name, number, ["Better."], trained_by="7")
    assert tags(name, number) == {"retraining": "7", "decision_reasons": "Better."}
    assert promotion_records.decided_version(name, "7") is None


def test_long_reasons_are_cut(version):
    promotion_records.note_reasons(*version, ["x" * 6000], trained_by="7", drift="warn")
    assert (len(tags(*version)["decision_reasons"]), tags(*version)["drift"]) == (5000, "warn")
    promotion_records.note_stop("cxr-x", ["Without a run."])
    with mlflow.start_run() as run:
        promotion_records.note_stop("cxr-x", ["x" * 6000])
    stopped = mlflow.MlflowClient().get_run(run.info.run_id).data.tags
    assert (stopped["decision"], len(stopped["decision_reasons"])) == ("stopped", 5000)
