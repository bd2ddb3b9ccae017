"""Make ``docs/results.md`` anew: every task, default configuration, on real images.

    python docs/results.py RAW [TASK ...]
    python docs/results.py RAW --ablation [--params PARAMS]

Runs ``kedro run --pipeline=TASK --params raw=RAW`` for each task, all of them where none is named, and keeps what
each of them measured in ``docs/results.csv``; with ``--ablation`` the twelve models of ``abnormality_ablation``, in
``docs/twelve_models.csv`` with its picture. The page is written from both.
"""

import argparse
import datetime
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_pipeline.common.parallel import n_cores
from cxr_pipeline.common.provenance import git_commit
from cxr_pipeline.framework.config import TASKS

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "docs" / "results.csv"
TWELVE = PROJECT / "docs" / "twelve_models.csv"
PICTURE = PROJECT / "docs" / "images" / "twelve_models.png"
ABLATION = "abnormality_ablation"
PAGE = PROJECT / "docs" / "results.md"
METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "average_precision", "ece")
INTRODUCTION = """# Results

Every task as it is configured, trained and tested on real images: a row is one
`kedro run --pipeline=TASK --params raw=RAW`, judged on test images that neither training nor threshold has seen, with
95 % intervals over patients (over images where patients are not known). Figures of several classes are means over the
classes. Where a task has several sources, a model can tell the source instead of the finding: the AUC within each
source is the one to look at. Made by `make results`; drawn images are refused.
"""


TWELVE_MODELS = """
## Twelve models

Which backbone tells normal from abnormal, does augmentation help, and should the epoch with the best accuracy or the
one with the best recall be kept? Twelve cells on NIH images, each measured on the same {images} test images, with 95 %
intervals over patients. The question is that of a notebook that this project replaces; its best accuracy was .643,
its best recall .850 and its best precision .775, never in one model, on other images.

```
kedro run --pipeline={ablation} --params raw=RAW{params}
```

"""


def main() -> None:
    """Run what is asked for, one after the other, and write the page after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", help="folder that the paths of the sources start from")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all where none is named")
    parser.add_argument("--ablation", action="store_true", help="the twelve models instead of tasks")
    parser.add_argument("--params", help="more parameters of the ablation")
    arguments = parser.parse_args()
    if arguments.ablation:
        run_ablation(arguments.raw, arguments.params)
        write_page()
    for task in () if arguments.ablation else arguments.tasks or TASKS:
        row = run(task, arguments.raw)
        earlier = pd.read_csv(RECORD, dtype=object) if RECORD.exists() else pd.DataFrame(columns=["task"])
        rows = pd.concat([earlier[earlier["task"] != task], pd.DataFrame([row], dtype=object)], ignore_index=True)
        rows = rows.sort_values("task", key=lambda names: names.map(list(TASKS).index), ignore_index=True)
        rows.to_csv(RECORD, index=False)
        write_page()


def write_page() -> None:
    """Write the page from what is recorded."""
    twelve = twelve_models() if TWELVE.exists() else ""
    PAGE.write_text(page(pd.read_csv(RECORD, dtype=object)) + twelve, "utf-8")


def run_ablation(raw: str, params: str | None) -> None:
    """Run the twelve models, and keep their table."""
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
    """End with a message where images were drawn."""
    if report["phantom"]:
        sys.exit(f"{pipeline} was trained on phantoms, expected real images: take {raw} from another environment.")


def kedro(pipeline: str, params: str) -> None:
    """Run a pipeline of this project."""
    subprocess.run(
        [sys.executable, "-m", "kedro", "run", f"--pipeline={pipeline}", "--params", params], cwd=PROJECT, check=True
    )


def run(task: str, raw: str) -> dict[str, object]:
    """Run a task; give what it measured and how long it took."""
    started = time.monotonic()
    kedro(task, f"raw={raw}")
    minutes = (time.monotonic() - started) / 60
    metrics = json.loads((PROJECT / "data" / "08_reporting" / task / "metrics.json").read_text())
    refuse_phantoms(task, metrics, raw)
    return {
        "task": task,
        "images": metrics["n_images"],
        "patients": metrics["n_patients"],
        **{name: in_words(metrics["metrics"][name]) for name in METRICS},
        "by_source": by_source(metrics.get("per_source", {})),
        "always": f"{metrics['majority']['accuracy']:.3f}" if "majority" in metrics else "",
        "minutes": round(minutes, 1),
        "cores": n_cores(),
        "commit": in_short(git_commit()),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def in_short(commit: str) -> str:
    """Its first digits, and whether files differed from it."""
    digits, plus, changes = commit.partition("+")
    return digits[:9] + plus + changes


def by_source(measured: dict[str, Any]) -> str:
    """The AUC on the images of each source alone: where source and class go together, that of all images says little."""
    return "; ".join(f"{name} {in_words(figures['metrics']['auc'])}" for name, figures in measured.items())


def in_words(metric: dict[str, float | None]) -> str:
    """``"0.897 (0.861 to 0.930)"``."""
    if metric["value"] is None:
        return "not defined"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def page(rows: pd.DataFrame) -> str:
    """Write the rows as a table of Markdown."""
    names = {"images": "test images", "auc": "AUC", "by_source": "AUC by source", "ece": "calibration error"}
    names["always"] = "always the commonest class"
    cells = rows.fillna({"patients": "not known", "always": "", "by_source": ""})
    return INTRODUCTION + "\n" + markdown(cells.rename(columns=lambda name: names.get(name, name.replace("_", " "))))


def twelve_models() -> str:
    """Write the table of the twelve models."""
    table = pd.read_csv(TWELVE)
    measured = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "recall", "precision": "precision"}
    rows = pd.DataFrame({"model": table["cell"]})
    for name, title in {**measured, "specificity": "specificity"}.items():
        ends = table[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
        rows[title] = [f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in ends]
    rows["p of the AUC against the first, Holm"] = table["p_holm"].map("{:.3f}".format).replace("nan", "")
    rows["says always the same"] = table["collapsed"].map({True: "yes", False: ""})
    rows["minutes"] = (table["seconds"] / 60).round(1)
    rows["peak memory, MiB"] = table["peak_memory_mb"].round().astype(int)
    best = {title: table.loc[table[name].idxmax(), "cell"] for name, title in measured.items()}
    words = "; ".join(f"{title}: {model}" for title, model in best.items())
    commits = ", ".join(map(in_short, table["commit"].unique()))
    params = "".join(f",{given}" for given in table["params"].dropna().unique())
    introduction = TWELVE_MODELS.format(ablation=ABLATION, params=params, images=table["n_images"][0])
    picture = f"![Twelve models](images/{PICTURE.name})"
    return f"{introduction}{markdown(rows)}\n{picture}\n\nThe highest of each figure: {words}. Trained at {commits}.\n"


def markdown(rows: pd.DataFrame) -> str:
    """A table of Markdown."""
    lines = [list(rows.columns), ["---"] * len(rows.columns), *rows.astype(str).itertuples(index=False)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
