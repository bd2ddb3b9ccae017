"""The report of a task as HTML, and the model card of its version as Markdown: the same sections.

The card leaves out figures and folded sections. Its sections name the items of CLAIM and TRIPOD+AI that they answer.
"""

from collections.abc import Sequence

from cxr_pipeline.report import sentences, tables
from cxr_pipeline.report.content import Block, Document, Page, ReportContent, Section, Table
from cxr_pipeline.report.figures.captions import HEATMAPS, pictures
from cxr_pipeline.report.formatting import as_text, join, number, plural, value_of
from cxr_pipeline.report.guidelines import unknown_fields
from cxr_pipeline.report.kinds import Kind, kind_of
from cxr_pipeline.report.rendering import RESEARCH, render_html, render_markdown
from cxr_pipeline.report.warnings import poor_auc, warnings

PARAMETERS = (
    "resolution.size", "resolution.mode", "morphology.steps", "model.name", "model.weights", "model.pooling",
    "training.loss", "training.optimizer", "training.learning_rate", "training.epochs", "training.batch_size",
    "training.fine_tuning.epochs", "training.seed", "resampling.plan", "resampling.class_weights",
)  # fmt: skip
TRAINING = ("training_curves", "class_samples", "augmentation_preview")
# Figures that are not in the section on performance.
ELSEWHERE = (HEATMAPS, *TRAINING)


def render_report(content: ReportContent) -> str:
    """Render the report as HTML, without names of images or patients."""
    task = content.task
    intro = (
        f"Report of the task “{task['name']}”, a chest X-ray classifier. {RESEARCH} model_card.md, next to this page "
        "and  in MLflow, has the same content as text."
    )
    return render_html(Page(task["title"], _sections(content), content.metrics["phantom"], [intro]))


def render_card(content: ReportContent, *, model_name: str) -> str:
    """Render the card of the version that a run is about to register as Markdown; it names no image and no patient.

    Args:
        content: what the report shows.
        model_name: name of the registered model.
    """
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
    return render_markdown(Page(title, _sections(content), content.metrics["phantom"], intro))


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
    kind, phantom = kind_of(content.task), content.metrics["phantom"]
    bullets = warnings(kind, content.metrics, content.decision_rule, content.data_report, content.split_counts)
    monitoring: list[Block] = [*sentences.monitoring(content.task["name"], phantom=phantom)]
    return [
        _use(kind, content),
        Section.warnings(bullets),
        _performance(kind, content),
        _decision_rule(content.decision_rule),
        _subgroups(content.subgroups),
        _heat_maps(content),
        _data(kind, content),
        _split(kind, content),
        _model(kind, content),
        Section("Monitoring and updates", monitoring, items="TRIPOD+AI 24, 27a", anchor="monitoring"),
        _limitations(content),
        unknown_fields(),
    ]


def _use(kind: Kind, content: ReportContent) -> Section:
    blocks: list[Block] = [
        f"For researchers with knowledge of radiology and statistics: {kind.text(kind.purpose)}. The model returns "
        f"{kind.text(kind.output)}.",
        "Out of scope:",
        sentences.out_of_scope(kind, content.source_counts),
    ]
    return Section("Intended use", blocks, items="CLAIM 4, 6; TRIPOD+AI 4, 27b", anchor="use")


def _performance(kind: Kind, content: ReportContent) -> Section:
    metrics = content.metrics
    policies = (
        "Metrics on the same test images with thresholds from other policies, fitted on the same validation images. "
        "The policy was chosen in advance."
    )
    blocks: list[Block] = [
        " ".join(filter(None, [poor_auc(kind, metrics), *kind.describe(metrics)])),
        sentences.uncertainty(kind, metrics),
        tables.overall(metrics, kind),
        pictures({name: png for name, png in content.figures.items() if not name.startswith(ELSEWHERE)}),
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
    blocks: list[Block] = [
        sentences.decision(rule),
        sentences.calibration(rule),
        tables.decision_rule(rule),
        tables.rules_of_classes(rule),
    ]
    items = "CLAIM 28; TRIPOD+AI 12, 15, 23"
    return Section("Decision rule and calibration", blocks, items=items, anchor="decision-rule")


def _subgroups(evaluated: Document | None) -> Section:
    text = sentences.subgroups(evaluated) if evaluated else ["Subgroups were not evaluated."]
    items = "CLAIM 30, 34; TRIPOD+AI 14, 23a"
    return Section("Subgroups", [*text, tables.subgroups(evaluated)], items=items, anchor="subgroups")


def _heat_maps(content: ReportContent) -> Section:
    maps = pictures({name: png for name, png in content.figures.items() if name.startswith(HEATMAPS)})
    text = sentences.heat_maps(content.explanations) if content.explanations else ["No heat maps were evaluated."]
    blocks = [*text, tables.localisation(content.explanations), maps]
    return Section("Heat maps", blocks, items="CLAIM 31", anchor="heatmaps")


def _data(kind: Kind, content: ReportContent) -> Section:
    data = content.data_report
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


def _split(kind: Kind, content: ReportContent) -> Section:
    shares = [f"{as_text(content.parameters.get(f'splitting.{name}'))} {name}" for name in content.split_counts]
    sentence = (
        "Assigned by patient, or by image where the patient is unknown, and stratified by class within each source: "
        f"{join(shares)}, unless a source defines the split. A patient's split never changes. The run stops if a "
        "patient, or the same image, is in two splits."
    )
    table = tables.splits(content.split_counts, kind.classes)
    return Section("Split", [sentence, table], items="CLAIM 20, 21; TRIPOD+AI 16, 21", anchor="splits")


def _model(kind: Kind, content: ReportContent) -> Section:
    parameters = content.parameters
    selection = (
        f"The selected epoch is the latest with a {parameters.get('training.monitor')} on validation images within "
        f"{as_text(parameters.get('training.tolerance'))} of the best. It is a single network, not an ensemble. Rare "
        "classes are oversampled or weighted as the parameters below say."
    )
    main = {name: parameters[name] for name in PARAMETERS if name in parameters}
    everything = f"All {plural(len(parameters), 'parameter')}"
    blocks: list[Block] = [
        sentences.model(kind, content.model),
        "The pixels of one image are its only input: no age, sex, earlier image or report.",
        selection,
        pictures({name: content.figures[name] for name in TRAINING if name in content.figures}),
        Section("Training history", [Table.of_frame(content.history)], style="folded"),
        Section("Main parameters", [tables.parameters(main)]),
        Section(everything, [tables.parameters(parameters)], style="folded"),
        Section("Software", [Table.of_pairs(content.versions, style="long")]),
    ]
    return Section("Model", blocks, items="CLAIM 9, 22 to 27; TRIPOD+AI 7, 9, 12, 13, 22", anchor="model")


def _limitations(content: ReportContent) -> Section:
    retraining = (
        "Retraining compares a challenger with the current champion only, each time on largely the same test patients. "
        "With retraining.improvement=better_or_newer, small losses within the margins can accumulate, limited only by "
        "the floors; better is the strict setting."
    )
    bullets = [sentences.external_test(content.source_counts), retraining]
    return Section("Limitations", [bullets], items="CLAIM 32, 38; TRIPOD+AI 26", anchor="limitations")
