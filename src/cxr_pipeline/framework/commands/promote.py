"""``kedro promote``: make a version the champion by hand."""

from typing import Any

import click
from kedro.framework.cli.utils import env_option

from cxr_pipeline.framework.commands.arguments import TASK
from cxr_pipeline.framework.commands.lineage import choose, open_project


@click.command()
@TASK
@click.argument("version", type=int)
@env_option
def promote(task: str, version: int, env: str | None) -> None:
    """Make VERSION, a number, the champion of TASK, and write a record of it.

    The version is not compared with the champion, which becomes the previous one.
    """
    from cxr_pipeline.framework import config
    from cxr_pipeline.report.pages.promotion_record import decision_files
    from cxr_pipeline.tracking import aliases, promotion_records

    context, versions = open_project(task, env)
    parameters = config.TaskParameters.model_validate(context.config_loader["parameters"][task])
    (chosen,) = choose(versions, str(version))
    model = chosen.model
    champion = aliases.aliases_of(model)[aliases.CHAMPION]
    if champion == version:
        click.echo(f"{model} {version} is already the champion.")
        return
    record = _record(chosen, champion, parameters)
    files = decision_files(record)
    numbers = aliases.promote(model, version, over=champion)
    context.catalog[f"{task}.decisions"].save(files)
    promotion_records.note_reasons(model, version, record["reasons"])
    promotion_records.note_decision(model, version, promoted=True)
    context.catalog[f"{task}.aliases"].save(numbers)
    record_file = context.catalog[f"{task}.decisions"]._describe()["filepath"]
    click.echo(f"{model} {version} is the champion. Record: {record_file}/{next(iter(files))}")


def _record(chosen: Any, champion: int | None, parameters: Any) -> dict[str, Any]:
    """Return the record of a decision without a comparison."""
    from cxr_pipeline.deployment.promotion import COMPARED, Decision, decide
    from cxr_pipeline.report.formatting import from_columns
    from cxr_pipeline.report.pages.promotion_record import decision_record

    rule = parameters.retraining.rule
    names = {*COMPARED, *rule["floors"]}
    undefined = {"value": None, "low": None, "high": None}
    metrics: dict[str, Any] = {name: from_columns(chosen.metrics, name) or undefined for name in names}
    floors = decide(metrics, None, **rule, newer_data=True).floors
    n_patients = chosen.metrics.get("n_patients")
    return decision_record(
        Decision(True, ["It was made the champion by hand, with kedro promote."], [], floors),
        None,
        challenger={
            "version": chosen.number,
            "uri": f"models:/{chosen.model}/{chosen.number}",
            "run_id": chosen.run_id,
            "digest": chosen.tags.get("digest"),
        },
        metrics={
            "task": parameters.task.name,
            "phantom": parameters.sources.phantom,
            "metrics": metrics,
            "images_digest": chosen.test_digest,
            "n_images": int(chosen.metrics.get("n_images", 0)),
            "n_patients": None if n_patients is None else int(n_patients),
        },
        changes=dict.fromkeys(("changes", "drift", "digest"))
        | {"model": chosen.model, "champion": champion, "why": ""},
        rule=rule,
        bootstrap=parameters.evaluation.bootstrap,
    )
