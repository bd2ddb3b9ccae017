"""``kedro predict``: probability and decision for single images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from kedro.framework.cli.utils import env_option

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.framework.commands.arguments import TASK

if TYPE_CHECKING:
    import pandas as pd

    from cxr_pipeline.framework.prediction import FileClassifier


@click.command()
@TASK
@click.argument("images", nargs=-1, required=True, type=Path, metavar="IMAGE...")
@click.option("--model", metavar="URI", help="Version, such as 3 or models:/cxr-effusion/3; the champion by default.")
@env_option
def predict(task: str, images: tuple[Path, ...], model: str | None, env: str | None) -> None:
    """Show probability, decision and flags for one or more IMAGEs: PNG, JPEG, TIFF, BMP, WEBP or DICOM files.

    The exit status is 1 if an image is refused.
    """
    if missing := next((image for image in images if not image.exists()), None):
        raise UserError(f"There is no file {missing}. Give the path of an image.")
    if folder := next(filter(Path.is_dir, images), None):
        environment = f" --env {env}" if env else ""
        raise UserError(
            f"{folder} is a folder. Give image files, or score the folder: "
            f"kedro run{environment} --pipeline={task}_scoring --params {task}.scoring.folder={folder}"
        )
    # Only now, because it takes seconds.
    from cxr_pipeline.framework.prediction import load_classifier

    classifier = load_classifier(task, version=model, env=env)
    predictions = classifier.predict(*images)
    click.echo(describe(classifier, predictions))
    sys.exit(int((predictions["status"] == "refused").any()))


def describe(classifier: "FileClassifier", predictions: "pd.DataFrame") -> str:
    """Return predictions as text: a row per image or, with several outputs, one per image and class."""
    import pandas as pd

    from cxr_pipeline.deployment.classifier import output_columns

    outputs = classifier.classifier.decision_rule.outputs
    probabilities, thresholds = (output_columns(quantity, outputs) for quantity in ("probability", "threshold"))
    rows = []
    for _, image in predictions.iterrows():
        first = {"image": image["image"], "decision": image["decision"], "flags": image["reason"]}
        if image["status"] == "refused":
            rows.append({**first, "decision": "refused", "flags": f"{image['reason']}: {image['detail']}"})
            continue
        for output, probability, threshold in zip(outputs, probabilities, thresholds, strict=True):
            rows.append({**first, "class": output, "probability": image[probability], "threshold": image[threshold]})
            first = {}
    names = ["class"] if len(outputs) > 1 else []
    columns = ["image", "decision", *names, "probability", "threshold", "flags"]
    table = pd.DataFrame(rows, columns=columns).dropna(axis="columns", how="all").fillna("")
    cells = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in table.to_numpy()]
    cells.insert(0, list(map(str, table)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rows_of_text = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    lines = [f"{classifier.version.uri}, {classifier.chosen}.", "", *rows_of_text]
    if classifier.classifier.provenance.get("images") == "phantom":
        lines.append("\nThe model was trained on phantoms: its predictions for images of patients are meaningless.")
    return "\n".join([*lines, "\nFor research use only. Do not use it to make decisions about a patient."])
