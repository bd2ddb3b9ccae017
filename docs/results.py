"""Make ``docs/results.md`` anew: every task, default configuration, on real films.

    python docs/results.py RAW [TASK ...]

Runs ``kedro run --pipeline=TASK --params raw=RAW`` for each task, all of them where none is named, and keeps what
each of them measured in ``docs/results.csv``, from which the page is written.
"""

import datetime
import json
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from cxr_pipeline.config import TASKS
from cxr_pipeline.images.parallel import n_cores
from cxr_pipeline.provenance import git_commit

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "docs" / "results.csv"
PAGE = PROJECT / "docs" / "results.md"
METRICS = ("auc", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "average_precision", "ece")
INTRODUCTION = """# Results

Every task as it is configured, trained and tested on real films: a row is one
`kedro run --pipeline=TASK --params raw=RAW`, judged on test films that neither training nor threshold has seen, with
95 % intervals over patients (over films where patients are not known). Figures of several classes are means over the
classes. Made by `make results`; drawn films are refused.
"""


def main(raw: str, tasks: list[str]) -> None:
    """Run the tasks one after the other, and write the page after each."""
    for task in tasks or TASKS:
        row = run(task, raw)
        earlier = pd.read_csv(RECORD, dtype=object) if RECORD.exists() else pd.DataFrame(columns=["task"])
        rows = pd.concat([earlier[earlier["task"] != task], pd.DataFrame([row], dtype=object)], ignore_index=True)
        rows = rows.sort_values("task", key=lambda names: names.map(list(TASKS).index), ignore_index=True)
        rows.to_csv(RECORD, index=False)
        PAGE.write_text(page(rows), "utf-8")


def run(task: str, raw: str) -> dict[str, object]:
    """Run a task; give what it measured and how long it took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "kedro", "run", f"--pipeline={task}", "--params", f"raw={raw}"]
    subprocess.run(command, cwd=PROJECT, check=True)
    minutes = (time.monotonic() - started) / 60
    metrics = json.loads((PROJECT / "data" / "08_reporting" / task / "metrics.json").read_text())
    if metrics["phantom"]:
        sys.exit(f"{task} was trained on phantoms, expected real films: take {raw} from another environment.")
    return {
        "task": task,
        "films": metrics["n_images"],
        "patients": metrics["n_patients"],
        **{name: in_words(metrics["metrics"][name]) for name in METRICS},
        "always": f"{metrics['majority']['accuracy']:.3f}" if "majority" in metrics else "",
        "minutes": round(minutes, 1),
        "cores": n_cores(),
        "commit": git_commit()[:9],
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def in_words(metric: dict[str, float | None]) -> str:
    """``"0.897 (0.861 to 0.930)"``."""
    if metric["value"] is None:
        return "not defined"
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})"


def page(rows: pd.DataFrame) -> str:
    """Write the rows as a table of Markdown."""
    names = {"films": "test films", "auc": "AUC", "ece": "calibration error", "always": "always the commonest class"}
    header = [names.get(name, name.replace("_", " ")) for name in rows.columns]
    cells = rows.fillna({"patients": "not known", "always": ""}).astype(str)
    lines = [header, ["---"] * len(header), *cells.itertuples(index=False)]
    return INTRODUCTION + "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} RAW [TASK ...]; RAW is the folder that the paths of the sources start from")
    main(sys.argv[1], sys.argv[2:])
