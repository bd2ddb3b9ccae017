"""Run every task with its default configuration on real images and write ``docs/results.md``.

    python docs/results.py RAW [TASK ...]
    python docs/results.py RAW --ablation [--params PARAMS]

Runs ``kedro run --pipeline=TASK --params raw=RAW`` for each TASK, by default for all, and again with a single network
and a single view, and stores the metrics in ``docs/results.csv``. With ``--ablation``, runs the twelve models of
``abnormality_ablation`` and stores their metrics in ``docs/twelve_models.csv`` and their figure in ``docs/images``. The
page is written from both tables.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.parallel import n_cores
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.framework.config_loader import task_names
from cxr_pipeline.report.formatting import measure
from cxr_pipeline.report.page import records

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "docs" / "results.csv"
TWELVE = PROJECT / "docs" / "twelve_models.csv"
PICTURE = PROJECT / "docs" / "images" / "twelve_models.png"
ABLATION = "abnormality_ablation"
PAGE = PROJECT / "docs" / "results.md"
DEFAULT, SINGLE_NETWORK = "", ",{task}.training.folds=1,{task}.evaluation.views=1"
METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "average_precision", "ece")
INTRODUCTION = """# Results

All tasks with their default configuration, trained and tested on real images. Each row is one
`kedro run --pipeline=TASK --params raw=RAW`, evaluated on test images that were used for neither training nor
thresholds; rows with one network have `training.folds=1` and `evaluation.views=1`. Metrics have 95 % intervals
clustered by patient (by image if patients are unknown). Metrics of several classes are means over the classes.

The cross-validated AUC is that of single networks on all images outside the test set
([why there are two figures](guides/few_images.md)). If a task has several sources, a model can recognise the source
instead of the finding; the AUC within each source does not have this problem. `make results` writes this page; it
refuses phantoms.
"""


TWELVE_MODELS = """
## Twelve models

Which backbone separates normal from abnormal images best, does augmentation help, and should the epoch with the best
accuracy or the one with the best recall be selected? Twelve cells on NIH images, evaluated on the same {images} test
images, with 95 % intervals clustered by patient. A notebook that this project replaces asked the same question; on
other images, its best accuracy was .643, its best recall .850 and its best precision .775, each with a different model.

```bash
kedro run --pipeline={ablation} --params raw=RAW{params}
```

"""


def main() -> None:
    """Run the tasks or the ablation, and write the page after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", help="folder that the paths of the sources are relative to")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="tasks to run; all by default")
    parser.add_argument("--ablation", action="store_true", help="the twelve models instead of tasks")
    parser.add_argument("--params", help="more parameters of the ablation")
    arguments = parser.parse_args()
    if arguments.ablation:
        run_ablation(arguments.raw, arguments.params)
        write_page()
    commit = in_short(git_commit())  # before the first row is written, which is a change of the project
    tasks = () if arguments.ablation else arguments.tasks or task_names()
    for task, variant in product(tasks, (DEFAULT, SINGLE_NETWORK)):
        row = pd.DataFrame([run(task, arguments.raw, variant, commit)]).astype(str)
        earlier = pd.read_csv(RECORD, dtype=str) if RECORD.exists() else row.head(0)
        # Of two rows of the same task and the same numbers of networks and views, the newer one is kept.
        rows = pd.concat([earlier, row]).drop_duplicates(["task", "networks", "views"], keep="last")
        order = {name: number for number, name in enumerate(task_names())}
        rows = rows.sort_values(["networks", "views"], key=lambda numbers: -numbers.astype(int), kind="stable")
        rows.sort_values("task", key=lambda names: names.map(order), kind="stable").to_csv(RECORD, index=False)
        write_page()


def write_page() -> None:
    """Write the page from the stored tables."""
    twelve = twelve_models() if TWELVE.exists() else ""
    PAGE.write_text(page(pd.read_csv(RECORD, dtype=str)) + twelve, "utf-8")


def run_ablation(raw: str, params: str | None) -> None:
    """Run the twelve models and store their table."""
    given = ",".join(filter(None, [f"raw={raw}", params]))
    kedro(ABLATION, given)
    reports = PROJECT / "data" / "08_reporting" / ABLATION.partition("_")[0]
    refuse_phantoms(ABLATION, json.loads((reports / "data_report.json").read_text()), raw)
    table = pd.read_csv(reports / "ablation.csv")
    if failed := table.loc[table["error"].notna(), "cell"].tolist():
        sys.exit(f"{ABLATION}: {', '.join(failed)} failed; expected a model of each. See {reports / 'ablation.html'}.")
    table.assign(params=params or "").to_csv(TWELVE, index=False)
    shutil.copyfile(reports / "ablation.png", PICTURE)


def refuse_phantoms(pipeline: str, report: dict[str, Any], raw: str) -> None:
    """Exit with an error if the images are phantoms."""
    if report["phantom"]:
        sys.exit(f"{pipeline} was trained on phantoms, expected real images: take {raw} from another environment.")


def kedro(pipeline: str, params: str) -> None:
    """Run a pipeline of this project."""
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", f"--pipeline={pipeline}", "--params", params], cwd=PROJECT, check=True
    )


def run(task: str, raw: str, variant: str, commit: str) -> dict[str, object]:
    """Run a task with the parameters of a variant, and return its metrics and duration."""
    started = time.monotonic()
    kedro(task, f"raw={raw}{variant.format(task=task)}")
    minutes = (time.monotonic() - started) / 60
    metrics = json.loads((PROJECT / "data" / "08_reporting" / task / "metrics.json").read_text())
    refuse_phantoms(task, metrics, raw)
    return {
        "task": task,
        "networks": metrics.get("cross_validation", {"folds": 1})["folds"],
        "views": metrics["views"],
        "images": metrics["n_images"],
        "patients": metrics["n_patients"] or "",
        **{name: measure(metrics["metrics"][name]) for name in METRICS},
        "cross_validated": cross_validated(metrics.get("cross_validation")),
        "by_source": by_source(metrics.get("per_source", {})),
        "always": f"{metrics['majority']['accuracy']:.3f}" if "majority" in metrics else "",
        "minutes": round(minutes, 1),
        "cores": n_cores(),
        "commit": commit,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def in_short(commit: str) -> str:
    """Shorten a commit hash; keep the mark of uncommitted changes."""
    digits, plus, changes = commit.partition("+")
    return digits[:9] + plus + changes


def cross_validated(measured: dict[str, Any] | None) -> str:
    """Format the cross-validated AUC of an ensemble."""
    return "" if measured is None else measure(measured["metrics"]["auc"])


def by_source(measured: dict[str, Any]) -> str:
    """Format the AUC within each source, which is not confounded by the source."""
    return "; ".join(f"{name} {measure(figures['metrics']['auc'])}" for name, figures in measured.items())


def page(rows: pd.DataFrame) -> str:
    """Return the page with a Markdown table of the rows."""
    names = {"images": "test images", "auc": "AUC", "by_source": "AUC by source", "ece": "calibration error"}
    names |= {"always": "accuracy of the most frequent class", "cross_validated": "cross-validated AUC"}
    cells = rows.fillna({"patients": "not known"}).fillna("")
    return INTRODUCTION + "\n" + markdown(cells.rename(columns=lambda name: names.get(name, name.replace("_", " "))))


def twelve_models() -> str:
    """Return the section on the twelve models."""
    table = pd.read_csv(TWELVE)
    measured = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "recall", "precision": "precision"}
    rows = pd.DataFrame({"model": table["cell"]})
    for name, title in {**measured, "specificity": "specificity"}.items():
        rows[title] = [measure(row[name]) for row in records(table)]
    rows["p of the AUC difference from the first, Holm"] = table["p_holm"].map("{:.3f}".format).replace("nan", "")
    rows["single prediction"] = table["collapsed"].map({True: "yes", False: ""})
    rows["minutes"] = (table["seconds"] / 60).round(1)
    rows["peak memory, MiB"] = table["peak_memory_mb"].round().astype(int)
    best = {title: table.loc[table[name].idxmax(), "cell"] for name, title in measured.items()}
    words = "; ".join(f"{title}: {model}" for title, model in best.items())
    commits = ", ".join(map(in_short, table["commit"].unique()))
    params = "".join(f",{given}" for given in table["params"].dropna().unique())
    introduction = TWELVE_MODELS.format(ablation=ABLATION, params=params, images=table["n_images"][0])
    picture = f"![Twelve models](images/{PICTURE.name})"
    return f"{introduction}{markdown(rows)}\n{picture}\n\nBest model by metric: {words}. Trained at {commits}.\n"


def markdown(rows: pd.DataFrame) -> str:
    """Format a table as Markdown."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
