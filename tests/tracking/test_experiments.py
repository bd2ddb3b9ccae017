import json

import mlflow

from cxr_pipeline.tracking.experiments import describe_experiment, pages_of_runs

VIEW = "mlflow.sharedViewState.results"


def test_an_experiment_gets_a_view_with_its_results_unless_it_has_one():
    client, experiment = mlflow.MlflowClient(), mlflow.create_experiment("cxr-a")
    describe_experiment(client, experiment)
    tags = client.get_experiment(experiment).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    columns = json.loads(json.loads(tags[VIEW])["state"])["selectedColumns"]
    assert {"metrics.`test/auc`", "params.`model.name`", "attributes.`Dataset`", "tags.`kedro_command`"} <= set(columns)
    client.set_experiment_tag(experiment, VIEW, "changed")
    client.set_experiment_tag(experiment, "mlflow.experimentKind", "regression")
    describe_experiment(client, experiment)
    tags = client.get_experiment(experiment).tags
    assert (tags[VIEW], tags["mlflow.experimentKind"]) == ("changed", "regression")


def test_the_pages_of_runs_open_the_view_of_experiments_that_have_it():
    view, plain = mlflow.create_experiment("cxr-view"), mlflow.create_experiment("cxr-without")
    describe_experiment(mlflow.MlflowClient(), view)
    pages = pages_of_runs("http://user:secret@host:5000")
    page = f"http://host:5000/#/experiments/{view}/runs?viewStateShareKey=results&workflowType=machine_learning"
    assert pages["cxr-view"] == page
    assert pages["cxr-without"] == f"http://host:5000/#/experiments/{plain}/runs?workflowType=machine_learning"
    assert "tests" not in pages
