"""The model card of a version: what a run knows of its model, in the fields of CLAIM and TRIPOD+AI.

What such a card should say and a run cannot know is named as not known. Each item of the guidelines is one or the
other, but for 1 and 2, the title and abstract of a paper.

References:
    Mongan, Moy, Kahn, "Checklist for artificial intelligence in medical imaging (CLAIM)", Radiology: AI 2, 2020, whose
    numbers are given here; Tejani et al., its update, Radiology: AI 6, 2024.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
    Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_pipeline.report.rendering import fill
from cxr_pipeline.report.words import summary, tables
from cxr_pipeline.report.words.explanations import where_it_looks
from cxr_pipeline.report.words.kinds import Document, Kind, kind_of
from cxr_pipeline.report.words.subgroups import subgroup_sentences, subgroup_table
from cxr_pipeline.report.words.tables import Table
from cxr_pipeline.report.words.text import as_text, listed, value_of
from cxr_pipeline.report.words.warnings import cautions, no_good

if TYPE_CHECKING:
    from cxr_pipeline.report.pages.page import ReportContent

PHANTOM = "PHANTOM IMAGES: drawn by a program, says nothing about patients."
# What the guidelines ask for and no run can know: the field, and its items in CLAIM (2020) and TRIPOD+AI.
UNKNOWN = (
    ("clinical background, and the role in care that is meant", "3", "3a, 3b"),
    ("known inequalities in health between groups", "", "3c"),
    ("whether the images were collected for this purpose or in routine", "5", "5a"),
    ("when and where they were taken, on which machines", "7", "5b, 6a, 9b"),
    ("who was eligible, and how they were chosen before they came into the source", "8", "6b"),
    ("what patients were treated with", "", "6c"),
    ("how identifiers were removed from the images", "12", ""),
    ("who or what set the labels, with which tools, and how far readers agree", "14 to 18", "8"),
    ("how the number of images was decided on beforehand", "19", "10"),
    ("what the images that it decides wrongly have in common", "37", ""),
    ("what the results mean for practice, beside earlier studies and for fairness; next steps", "39", "25, 27c"),
    ("ethical approval", "", "17"),
    ("registration, protocol, funding, conflicts of interest, and what is shared", "40 to 42", "18"),
    ("involvement of patients and the public", "", "19"),
)


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Args:
        title: its heading.
        items: the items of the guidelines that it answers.
        sentences: its text.
        tables: below the text.
    """

    title: str
    items: str
    sentences: list[str]
    tables: list[Table]


def render_card(content: "ReportContent", *, model_name: str) -> str:
    """Write the card of the version that a run is about to register.

    Args:
        content: all that its report shows.
        model_name: of the registered model.

    Returns:
        Markdown. Text from images and tables is escaped.
    """
    kind = kind_of(content.task)
    sections = (
        _use(kind, content),
        _data(kind, content),
        _split(kind, content),
        _model(kind, content),
        _decisions(content),
        _performance(kind, content),
        _subgroups(content),
        _calibration(content),
        _explanations(content),
        _monitoring(content.task["name"], phantom=content.metrics["phantom"]),
        _limits(kind, content),
        Section("Not known to this pipeline", "", [NOT_KNOWN], [unknown_fields()]),
    )
    return fill(
        "model_card.md.j2",
        title=content.task["title"],
        phantom=PHANTOM if content.metrics["phantom"] else None,
        about=_about(content, model_name),
        sections=sections,
    )


NOT_KNOWN = (
    "The guidelines ask for these too. No run can know them: whoever publishes or uses the model must add them, from "
    "the papers and the people behind its sources."
)
RENEWED = (
    "Retraining compares a challenger with the champion of that day alone, night after night on largely the same test "
    "patients. With retraining.improvement=better_or_newer small losses within the margins can add up, and only the "
    "floors stop that; better is the strict setting."
)


def short_card(metrics: Document, *, kind: str, classes: Sequence[str], phantom: bool) -> str:
    """The card in a few lines, for the description of a version in MLflow.

    Args:
        metrics: content of ``metrics.json``.
        kind: of the task.
        classes: of the task.
        phantom: whether any image is drawn.

    Returns:
        Markdown.
    """
    words = kind_of({"kind": kind, "classes": classes})
    auc = value_of(metrics["metrics"], "auc")
    measured = "undefined" if auc is None else f"{auc:.3f}"
    images = "phantom images; it says nothing about patients" if phantom else "images"
    lines = [
        f"{words.auc} {measured} on {metrics['n_images']} {metrics['split']} {images}.",
        *filter(None, [no_good(words, metrics)]),
        f"Intended use: {words.question}. For research; not a medical device, and for no decision about a patient.",
        "The whole model card is model_card.md, an artifact of the run that registered this version.",
    ]
    return "\n\n".join(lines)


def unknown_fields() -> Table:
    """What no run can know, with the items that ask for it."""
    return Table(("not known to this pipeline", "CLAIM", "TRIPOD+AI"), UNKNOWN)


def monitoring(task: str, *, phantom: bool) -> list[str]:
    """How later images are watched, and how the model is renewed."""
    demo = " --env demo" if phantom else ""
    return [
        f"A profile of the images that it was made with is kept beside it in MLflow: kedro run{demo} "
        f"--pipeline={task}_drift compares new images with it.",
        f"kedro run{demo} --pipeline={task}_retraining trains a challenger on newer images and puts it in use only if "
        f"it passes the promotion rule; kedro lineage{demo} {task} lists the versions, what they have seen and what "
        "was decided of them.",
        "Scoring refuses an image that it cannot read, with the reason; scoring.unlike says what becomes of one that is "
        "unlike these.",
    ]


def _about(content: "ReportContent", model_name: str) -> dict[str, str]:
    about = {
        "model": model_name,
        "task": content.task["name"],
        "images": content.data_report["data_digest"],
        "code": content.versions.get("git commit"),
        "test images": content.metrics.get("images_digest"),
    }
    return {name: str(value) for name, value in about.items() if value}


def _use(kind: Kind, content: "ReportContent") -> Section:
    sentences = [
        f"For research by people who know both radiology and statistics: {kind.question}. It gives {kind.answer}.",
        "Out of scope:",
        *(f"- {sentence}" for sentence in summary.not_for(kind, content.source_counts)),
    ]
    return Section("Intended use", "CLAIM 4, 6; TRIPOD+AI 4, 27b", sentences, [])


def _data(kind: Kind, content: "ReportContent") -> Section:
    data = content.data_report
    notes = [f"- {name}: {note}" for name, source in data["sources"].items() for note in source["notes"]]
    refused = content.quarantine["reason"].value_counts()
    reasons = [Table(("refused because", "images"), tuple((str(name), f"{n:,}") for name, n in refused.items()))]
    sentences = [
        summary.on_whom(kind, data, content.split_counts),
        f"{_refused(len(content.quarantine))} One that is there twice is taken once. "
        f"{summary.unsure_labels(content.parameters['task.uncertain'])} In MLflow images go by the hash of their "
        "content and patients by a keyed hash.",
        *notes,
    ]
    found = [tables.sources(data), tables.left_out(data), *(reasons if len(refused) else []), tables.facts(data)]
    return Section("Data", "CLAIM 7, 9 to 11, 13, 33; TRIPOD+AI 5a, 7, 11, 20", sentences, _present(found))


def _refused(n_images: int) -> str:
    return f"{n_images:,} images were refused, each with its reason." if n_images else "No image was refused."


def _split(kind: Kind, content: "ReportContent") -> Section:
    own = {name: as_text(content.parameters.get(f"splitting.{name}")) for name in ("train", "validation", "test")}
    sentence = (
        "Dealt by patient, or by image where the patient is not known, stratified by class within each source: "
        f"{listed([f'{share} {name}' for name, share in own.items()])} of the patients, where a source does not give "
        "the split itself. Once given, a patient's split never changes. The run stops if a patient, or the same image, "
        "is in two splits."
    )
    counts = content.split_counts
    shares = [
        (f"share of {name}", *(_share(images.get(name), summary.images_in(images)) for images in counts.values()))
        for name in kind.classes
    ]
    table = tables.splits(counts, kind.classes)
    return Section(
        "Split", "CLAIM 20, 21; TRIPOD+AI 16, 21", [sentence], [Table(table.columns, (*table.rows, *shares))]
    )


def _share(count: int | None, images: int) -> str:
    return as_text((count or 0) / images) if images else as_text(None)


def _model(kind: Kind, content: "ReportContent") -> Section:
    given = content.parameters
    wanted = (
        "resolution.size", "resolution.mode", "morphology.steps", "model.name", "model.weights", "model.pooling",
        "training.loss", "training.optimizer", "training.learning_rate", "training.epochs", "training.batch_size",
        "training.fine_tuning.epochs", "training.seed", "resampling.plan", "resampling.class_weights",
    )  # fmt: skip
    chosen = (
        f"Kept is the latest epoch whose {given.get('training.monitor')}, on validation images, comes within "
        f"{as_text(given.get('training.tolerance'))} of the best. One network, no ensemble. Rare classes are shown "
        "more often, or weighted, as the parameters below say. All parameters are in the report and in MLflow."
    )
    table = Table(("parameter", "value"), tuple((name, str(given[name])) for name in wanted if name in given))
    versions = Table(("made with", "version"), tuple(content.versions.items()))
    given_to_it = "The pixels of that one image are all that it is given: no age, no sex, no earlier image, no report."
    sentences = [summary.what_was_trained(kind, content.model), given_to_it, chosen]
    return Section("Model", "CLAIM 9, 22 to 27; TRIPOD+AI 7, 9, 12, 13, 22", sentences, [table, versions])


def _decisions(content: "ReportContent") -> Section:
    rule = content.decision_rule
    found = _present([tables.whole_rule(rule), tables.rules_of_classes(rule)])
    return Section("Decision rule", "TRIPOD+AI 12, 15", [summary.how_decided(rule)], found)


def _performance(kind: Kind, content: "ReportContent") -> Section:
    metrics = content.metrics
    found = _present([tables.measures(metrics, kind), tables.per_class(metrics), tables.per_source(metrics)])
    others = "What it reached on validation images, and the loss on training images, is in the report, epoch by epoch."
    sentences = [summary.how_good(kind, metrics), summary.how_sure(kind, metrics), others]
    return Section("Performance on the test images", "CLAIM 28, 29, 35, 36; TRIPOD+AI 12, 23", sentences, found)


def _subgroups(content: "ReportContent") -> Section:
    measured = content.subgroups
    sentences = subgroup_sentences(measured) if measured else ["They were not measured."]
    found = _present([subgroup_table(measured)]) if measured else []
    return Section("Subgroups", "CLAIM 30, 34; TRIPOD+AI 14, 23a", sentences, found)


def _calibration(content: "ReportContent") -> Section:
    measured = {name: content.metrics["metrics"].get(name) for name in ("brier", "ece")}
    rows = tuple((tables.title(name), tables.with_interval(found)) for name, found in measured.items() if found)
    sentence = summary.how_calibrated(content.decision_rule)
    return Section("Calibration", "CLAIM 28; TRIPOD+AI 12, 23", [sentence], [Table(("measure", "value"), rows)])


def _explanations(content: "ReportContent") -> Section:
    maps = content.explanations
    sentences = where_it_looks(maps) if maps else ["Nobody looked: no heat maps were made."]
    return Section("Where it looks", "CLAIM 31", sentences, _present([tables.localisation(maps)]))


def _monitoring(task: str, *, phantom: bool) -> Section:
    return Section("Afterwards", "TRIPOD+AI 24, 27a", monitoring(task, phantom=phantom), [])


def _limits(kind: Kind, content: "ReportContent") -> Section:
    found = cautions(kind, content.metrics, content.decision_rule, content.data_report, content.split_counts)
    sentences = [f"- {each}" for each in (*found, summary.tested_elsewhere(content.source_counts), RENEWED)]
    return Section("Limits and cautions", "CLAIM 32, 38; TRIPOD+AI 26", sentences, [])


def _present(found: list[Table | None]) -> list[Table]:
    return [table for table in found if table is not None]
