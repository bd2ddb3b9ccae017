"""What the MLflow UI shows of the experiment of a task: its kind, and a view of the runs with their results."""

import json
import time
from contextlib import suppress

import mlflow

from cxr_pipeline.evaluation.metrics import HEADLINE
from cxr_pipeline.tracking.server import without_password

# The id of the saved view that `describe_experiment` adds: the UI opens it with ``viewStateShareKey=results``.
RESULTS = "results"
_VIEW = f"mlflow.sharedViewState.{RESULTS}"
_METRICS = tuple(f"test/{name}" for name in (*HEADLINE, "n_images"))
_COLUMNS = {
    "metrics": _METRICS,
    "params": ("model.name", "resolution.size", "training.epochs"),
    "attributes": ("Dataset", "Models"),
    "tags": ("version", "decision", "kedro_command"),
}
# The order and widths in pixels of the first columns, by their ids in the UI.
_WIDTHS = {"attributes.`Run Name`": 330} | {f"metrics.`{name}`": 100 for name in _METRICS}


def pages_of_runs(address: str) -> dict[str, str]:
    """Return the page of the runs of each task by the name of its experiment, in the MLflow UI at an address."""
    experiments = mlflow.search_experiments(filter_string="name LIKE 'cxr-%'", order_by=["name"])
    pages = {}
    for experiment in experiments:
        view = f"viewStateShareKey={RESULTS}&" if _VIEW in experiment.tags else ""
        # Otherwise the UI opens its pages for generative AI.
        query = f"{view}workflowType=machine_learning"
        pages[experiment.name] = f"{without_password(address)}/#/experiments/{experiment.experiment_id}/runs?{query}"
    return pages


def describe_experiment(client: mlflow.MlflowClient, experiment_id: str) -> None:
    """Mark an experiment as one of model training, and add the view ``Results``; one that a user changed is kept.

    Without it, the table of runs has no metrics. It is in the menu ``Views`` of the UI of MLflow 3.17 and later.
    """
    tags = client.get_experiment(experiment_id).tags
    now = time.time_ns() // 1_000_000
    columns = [f"{kind}.`{name}`" for kind, names in _COLUMNS.items() for name in names]
    state = json.dumps({"selectedColumns": columns, "columnOrder": list(_WIDTHS), "columnWidths": _WIDTHS})
    view = {"name": "Results", "createdAt": now, "updatedAt": now, "state": state}
    wanted = {"mlflow.experimentKind": "custom_model_development", _VIEW: json.dumps(view)}
    for name in wanted.keys() - tags.keys():
        # Another run may set the same tag on the server at the same time.
        with suppress(mlflow.MlflowException):
            client.set_experiment_tag(experiment_id, name, wanted[name])
