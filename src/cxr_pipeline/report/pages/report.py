"""The report of a task as HTML, and the model card of its version as Markdown: the same sections.

The card leaves out figures and folded sections. Its sections name the items of CLAIM and TRIPOD+AI that they answer,
except 1 and 2, the title and abstract of a paper.

References:
    Mongan, Moy, Kahn, "Checklist for artificial intelligence in medical imaging (CLAIM)", Radiology: AI 2, 2020, whose
    numbers are used here; Tejani et al., its update, Radiology: AI 6, 2024.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
    Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cxr_pipeline.report import sentences, tables
from cxr_pipeline.report.figures.captions import HEATMAPS
from cxr_pipeline.report.formatting import Document, as_text, join, number, plural, value_of
from cxr_pipeline.report.kinds import kind_of
from cxr_pipeline.report.page import RESEARCH, Block, Page, Section, Table
from cxr_pipeline.report.warnings import poor_auc, warnings

PARAMETERS = (
    "resolution.size", "resolution.mode", "morphology.steps", "model.name", "model.weights", "model.pooling",
    "training.loss", "training.optimizer", "training.learning_rate", "training.epochs", "training.batch_size",
    "training.fine_tuning.epochs", "training.seed", "resampling.plan", "resampling.class_weights",
)  # fmt: skip
TRAINING = ("training_curves", "class_samples", "augmentation_preview")
# Figures that are not in the section on performance.
ELSEWHERE = (HEATMAPS, *TRAINING)
# The field, and its items in CLAIM (2020) and TRIPOD+AI.
UNKNOWN = (
    ("clinical background and intended role in care", "3", "3a, 3b"),
    ("known health inequalities between groups", "", "3c"),
    ("whether images were collected for this purpose or in routine care", "5", "5a"),
    ("dates, places and scanners of the images", "7", "5b, 6a, 9b"),
    ("eligibility criteria, and selection of the images of the source", "8", "6b"),
    ("treatments received by the patients", "", "6c"),
    ("method of de-identification", "12", ""),
    ("who assigned the labels, with which tools, and reader agreement", "14 to 18", "8"),
    ("sample size calculation", "19", "10"),
    ("analysis of the misclassified images", "37", ""),
    ("implications for practice, relation to earlier studies, fairness, next steps", "39", "25, 27c"),
    ("ethical approval", "", "17"),
    ("registration, protocol, funding, conflicts of interest, sharing of data and code", "40 to 42", "18"),
    ("patient and public involvement", "", "19"),
)


@dataclass(frozen=True)
class ReportContent:
    """Everything in the report and the model card of a task; documents are JSON, where null is an undefined number.

    Args:
        task: ``name``, ``title``, ``kind`` and ``classes``; of two classes, the negative one is first.
        metrics, decision_rule, explanations, subgroups: documents of those names; the last two may be empty.
        data_report: the document, with that on confounding as ``confounding``.
        quarantine: ``source``, ``image``, ``reason`` and ``detail`` of each quarantined image.
        split_counts: for each split, the images of each class, ``patients`` (None where unknown), and ``images`` where
            an image may have several classes or none.
        source_counts: for each source, its images in each split.
        history: a row for each epoch.
        figures: PNG bytes by name; those called ``heatmaps`` or ``heatmaps_<class>`` go to the section on heat maps.
        parameters: dotted name to value.
        versions: package, or ``git commit``, to version.
        model: ``name``, ``weights``, ``n_parameters``, and ``size``, the side of its input in pixels.
        classification_report: a row for each class; None for a binary task.
        confusion_table: test images by true (rows) and predicted class; None unless classes are exclusive.
    """

    task: Document
    metrics: Document
    decision_rule: Document
    data_report: Document
    quarantine: pd.DataFrame
    split_counts: tables.SplitCounts
    source_counts: sentences.SourceCounts
    history: pd.DataFrame
    figures: Mapping[str, bytes]
    parameters: Document
    versions: Mapping[str, str]
    model: Document
    explanations: Document | None = None
    classification_report: pd.DataFrame | None = None
    confusion_table: pd.DataFrame | None = None
    subgroups: Document | None = None


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
    """Summarise the card for the description of a version in MLflow, as Markdown.

    Args:
        metrics: content of ``metrics.json``.
        kind: kind of the task.
        classes: classes of the task.
        phantom: whether the images are phantoms.
    """
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
    bullets = warnings(
        kind_of(content.task), content.metrics, content.decision_rule, content.data_report, content.split_counts
    )
    return [
        _use(content),
        Section.warnings(bullets),
        _performance(content),
        _decision_rule(content.decision_rule),
        _subgroups(content.subgroups or {}),
        _heat_maps(content),
        _data(content),
        _split(content),
        _model(content),
        _monitoring(content),
        _limitations(content),
        _unknown(),
    ]


def _use(content: ReportContent) -> Section:
    kind = kind_of(content.task)
    blocks: list[Block] = [
        f"For researchers with knowledge of radiology and statistics: {kind.text(kind.purpose)}. The model returns "
        f"{kind.text(kind.output)}.",
        "Out of scope:",
        sentences.out_of_scope(kind, content.source_counts),
    ]
    return Section("Intended use", blocks, items="CLAIM 4, 6; TRIPOD+AI 4, 27b", anchor="use")


def _performance(content: ReportContent) -> Section:
    kind, metrics = kind_of(content.task), content.metrics
    policies = (
        "Metrics on the same test images with thresholds from other policies, fitted on the same validation images. "
        "The policy was chosen in advance."
    )
    blocks: list[Block] = [
        " ".join(filter(None, [poor_auc(kind, metrics), *kind.describe(metrics)])),
        sentences.uncertainty(kind, metrics),
        tables.overall(metrics, kind),
        {name: png for name, png in content.figures.items() if not name.startswith(ELSEWHERE)},
        Section("Metrics by class", [tables.per_class(metrics)]),
        Section("Classification report", [Table.of_frame(content.classification_report)]),
        Section(
            "Confusion matrix",
            [Table.of_frame(content.confusion_table, style="counted")],
            "Test images by true class (rows) and predicted class (columns).",
        ),
        Section("Metrics by source", [tables.per_source(metrics)]),
        Section("AUC by class and source", [tables.auc_per_source(metrics)]),
        Section("Other threshold policies", [tables.policies(metrics)], policies),
    ]
    items = "CLAIM 28, 29, 35, 36; TRIPOD+AI 12, 23"
    return Section("Performance on the test images", blocks, items=items, anchor="performance")


def _decision_rule(rule: Document) -> Section:
    blocks: list[Block] = [sentences.decision_rule(rule), tables.decision_rule(rule), tables.rules_of_classes(rule)]
    items = "CLAIM 28; TRIPOD+AI 12, 15, 23"
    return Section("Decision rule and calibration", blocks, items=items, anchor="decision-rule")


def _subgroups(evaluated: Document) -> Section:
    text = sentences.subgroups(evaluated) if evaluated else ["Subgroups were not evaluated."]
    blocks: list[Block] = [*text, tables.subgroups(evaluated)]
    return Section("Subgroups", blocks, items="CLAIM 30, 34; TRIPOD+AI 14, 23a", anchor="subgroups")


def _heat_maps(content: ReportContent) -> Section:
    explained = content.explanations or {}
    maps = {name: png for name, png in content.figures.items() if name.startswith(HEATMAPS)}
    text = sentences.heat_maps(explained) if explained else ["No heat maps were evaluated."]
    return Section("Heat maps", [*text, tables.localisation(explained), maps], items="CLAIM 31", anchor="heatmaps")


def _data(content: ReportContent) -> Section:
    kind, data = kind_of(content.task), content.data_report
    quarantined = tables.quarantined(content.quarantine)
    listed = (
        "quarantine.csv, in the same folder, lists these images. Their names may contain patients' names and are not "
        "shown here."
    )
    blocks: list[Block] = [
        sentences.data(kind, data, content.split_counts),
        f"Of duplicate images one is kept. {sentences.uncertain_labels(content.parameters['task.uncertain'])} In "
        "MLflow, images are identified by the hash of their content and patients by a keyed hash.",
        [f"{name}: {note}" for name, source in data["sources"].items() for note in source["notes"]],
        tables.sources(data),
        tables.excluded(data),
        Section("Confounding: images by class and source", [tables.confounding(data)]),
        Section("All images", [tables.all_images(data)]),
        Section("Quarantined images", [quarantined, listed] if quarantined else ["None."]),
    ]
    return Section("Data", blocks, items="CLAIM 7, 9 to 11, 13, 33; TRIPOD+AI 5a, 7, 11, 20", anchor="data")


def _split(content: ReportContent) -> Section:
    shares = [f"{as_text(content.parameters.get(f'splitting.{name}'))} {name}" for name in content.split_counts]
    sentence = (
        "Assigned by patient, or by image where the patient is unknown, and stratified by class within each source: "
        f"{join(shares)}, unless a source defines the split. A patient's split never changes. The run stops if a "
        "patient, or the same image, is in two splits."
    )
    table = tables.splits(content.split_counts, content.task["classes"])
    return Section("Split", [sentence, table], items="CLAIM 20, 21; TRIPOD+AI 16, 21", anchor="splits")


def _model(content: ReportContent) -> Section:
    parameters = content.parameters
    selection = (
        f"The selected epoch is the latest with a {parameters.get('training.monitor')} on validation images within "
        f"{as_text(parameters.get('training.tolerance'))} of the best. It is a single network, not an ensemble. Rare "
        "classes are oversampled or weighted as the parameters below say."
    )
    main = {name: parameters[name] for name in PARAMETERS if name in parameters}
    blocks: list[Block] = [
        sentences.model(kind_of(content.task), content.model),
        "The pixels of one image are its only input: no age, sex, earlier image or report.",
        selection,
        {name: content.figures[name] for name in TRAINING if name in content.figures},
        Section("Training history", [Table.of_frame(content.history)], style="folded"),
        Section("Main parameters", [tables.parameters(main)]),
        Section(f"All {plural(len(parameters), 'parameter')}", [tables.parameters(parameters)], style="folded"),
        Section("Software", [Table.of_pairs(content.versions, style="long")]),
    ]
    return Section("Model", blocks, items="CLAIM 9, 22 to 27; TRIPOD+AI 7, 9, 12, 13, 22", anchor="model")


def _monitoring(content: ReportContent) -> Section:
    task, demo = content.task["name"], " --env demo" * content.metrics["phantom"]
    blocks = [
        "A reference profile of the training images is stored with the model in MLflow. "
        f"kedro run{demo} --pipeline={task}_drift compares new images with it.",
        f"kedro run{demo} --pipeline={task}_retraining trains a challenger on newer data and promotes it only if it "
        f"passes the promotion rule. kedro lineage{demo} {task} lists the versions, their data and the decisions.",
        "Scoring rejects an image that it cannot read and gives the reason. scoring.out_of_distribution sets what "
        "happens to out-of-distribution images.",
    ]
    return Section("Monitoring and updates", blocks, items="TRIPOD+AI 24, 27a", anchor="monitoring")


def _limitations(content: ReportContent) -> Section:
    retraining = (
        "Retraining compares a challenger with the current champion only, each time on largely the same test patients. "
        "With retraining.improvement=better_or_newer, small losses within the margins can accumulate, limited only by "
        "the floors; better is the strict setting."
    )
    bullets = [sentences.external_test(content.source_counts), retraining]
    return Section("Limitations", [bullets], items="CLAIM 32, 38; TRIPOD+AI 26", anchor="limitations")


def _unknown() -> Section:
    """List the information that a run does not have, with the items of the guidelines."""
    explanation = (
        "The guidelines also require the following information, which the pipeline does not have. Add it before you "
        "publish or use the model."
    )
    table = Table(("unknown to this pipeline", "CLAIM", "TRIPOD+AI"), UNKNOWN, "long")
    return Section("Unknown to this pipeline", [explanation, table], anchor="unknown")
