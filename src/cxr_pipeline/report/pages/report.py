"""The report of a task as HTML, and the model card of its version as Markdown: the same sections.

The card leaves out figures and folded sections. Its sections name the items of CLAIM and TRIPOD+AI that they answer,
except 1 and 2, the title and abstract of a paper.

References:
    Mongan, Moy, Kahn, "Checklist for artificial intelligence in medical imaging (CLAIM)", Radiology: AI 2, 2020, whose
    numbers are used here; Tejani et al., its update, Radiology: AI 6, 2024.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
    Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from collections.abc import Sequence

from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.formatting import Document, number, value_of
from cxr_pipeline.report.kinds import kind_of
from cxr_pipeline.report.page import RESEARCH, Page, Section
from cxr_pipeline.report.sections import data, results
from cxr_pipeline.report.sections.model import model


def render_report(content: ReportContent) -> str:
    """Render the report as HTML, without names of images or patients."""
    intro = (
        f"Report on a model version of the task “{content.task['name']}”, a chest X-ray classifier. {RESEARCH} The "
        "model card, model_card.md in MLflow, has the same content as text."
    )
    return _page(content, f"{content.task['title']}: {_name(content)}", intro).html()


def render_card(content: ReportContent) -> str:
    """Render the model card of a version as Markdown, without names of images or patients."""
    intro = f"{RESEARCH} Items refer to CLAIM (2020, updated 2024) and TRIPOD+AI (2024)."
    return _page(content, f"Model card: {content.task['title']}", intro).markdown()


def _page(content: ReportContent, title: str, intro: str) -> Page:
    """Make a page that names, below its title, the version, and the run, images and code that it was made with."""
    facts = {
        "model": _name(content),
        "registered": content.version["registered"],
        "MLflow run": content.version["run_id"],
        "task": content.task["name"],
        "data digest": content.data_report["data_digest"],
        "git commit": content.version["git_commit"],
        "test digest": content.metrics.get("images_digest"),
    }
    known = [f"{name}: {value}" for name, value in facts.items() if value]
    return Page(title, _sections(content), content.metrics["phantom"], [intro, known])


def _name(content: ReportContent) -> str:
    return f"{content.version['name']} {content.version['version']}"


def short_card(metrics: Document, warnings: Sequence[str], *, kind: str, classes: Sequence[str], phantom: bool) -> str:
    """Summarise the card of a model with ``metrics.json`` for the description of its version in MLflow, as Markdown."""
    task = kind_of({"kind": kind, "classes": classes})
    images = "phantom images; this says nothing about patients" if phantom else "images"
    auc = f"{task.auc} {number(value_of(metrics['metrics'], 'auc'))}"
    lines = [
        f"{auc} on {metrics['n_images']} {metrics['split']} {images}.",
        f"Intended use: {task.text(task.purpose)}. For research use only; not a medical device. Do not use it for any "
        "decision about a patient.",
        "The model card is model_card.md, an artifact of the run that registered this version.",
        *warnings,  # last, because MLflow limits the length of a description
    ]
    return "\n\n".join(lines)


def _sections(content: ReportContent) -> list[Section]:
    return [
        data.use(content),
        Section.warnings(content.warnings),
        results.performance(content),
        results.decision_rule(content.decision_rule),
        results.subgroups(content.subgroups),
        results.heat_maps(content),
        data.data(content),
        data.split(content),
        model(content),
        data.monitoring(content.task["name"], phantom=content.metrics["phantom"]),
        data.limitations(content),
        data.not_answered(),
    ]
