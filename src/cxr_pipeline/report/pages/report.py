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
from cxr_pipeline.report.page import RESEARCH, Block, Page, Section
from cxr_pipeline.report.sections import data, results
from cxr_pipeline.report.warnings import poor_auc, warnings


def render_report(content: ReportContent) -> str:
    """Render the report as HTML, without names of images or patients."""
    task = content.task
    intro = (
        f"Report of the task “{task['name']}”, a chest X-ray classifier. {RESEARCH} model_card.md, next to this page "
        "and in MLflow, has the same content as text."
    )
    return Page(task["title"], _sections(content), content.metrics["phantom"], [intro]).html()


def render_card(content: ReportContent, *, model_name: str) -> str:
    """Render the card of the version that a run is about to register as Markdown; it names no image and no patient."""
    facts = {
        "model": model_name,
        "task": content.task["name"],
        "images": content.data_report["data_digest"],
        "code": content.versions.get("git commit"),
        "test images": content.metrics.get("images_digest"),
    }
    items = f"{RESEARCH} Items refer to CLAIM (2020, updated 2024) and TRIPOD+AI (2024)."
    intro: list[Block] = [items, [f"{name}: {value}" for name, value in facts.items() if value]]
    title = f"Model card: {content.task['title']}"
    return Page(title, _sections(content), content.metrics["phantom"], intro).markdown()


def short_card(metrics: Document, *, kind: str, classes: Sequence[str], phantom: bool) -> str:
    """Summarise the card of a model with ``metrics.json`` for the description of its version in MLflow, as Markdown."""
    task = kind_of({"kind": kind, "classes": classes})
    images = "phantom images; this says nothing about patients" if phantom else "images"
    auc = f"{task.auc} {number(value_of(metrics['metrics'], 'auc'))}"
    lines = [
        f"{auc} on {metrics['n_images']} {metrics['split']} {images}.",
        *filter(None, [poor_auc(task, metrics)]),
        f"Intended use: {task.text(task.purpose)}. For research use only; not a medical device. Do not use it for any "
        "decision about a patient.",
        "The model card is model_card.md, an artifact of the run that registered this version.",
    ]
    return "\n\n".join(lines)


def _sections(content: ReportContent) -> list[Section]:
    return [
        data.use(content),
        Section.warnings(warnings(content)),
        results.performance(content),
        results.decision_rule(content.decision_rule),
        results.subgroups(content.subgroups),
        results.heat_maps(content),
        data.data(content),
        data.split(content),
        data.model(content),
        data.monitoring(content.task["name"], phantom=content.metrics["phantom"]),
        data.limitations(content),
        data.not_answered(),
    ]
