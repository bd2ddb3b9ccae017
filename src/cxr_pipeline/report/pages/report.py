"""The report of a task as HTML, and the model card of its version as Markdown: the same sections.

The card leaves out figures and folded sections. Its sections name the items of CLAIM and TRIPOD+AI that they answer,
except 1 and 2, the title and abstract of a paper.

References:
    Mongan, Moy, Kahn, "Checklist for artificial intelligence in medical imaging (CLAIM)", Radiology: AI 2, 2020, whose
    numbers are used here; Tejani et al., its update, Radiology: AI 6, 2024.
    Collins et al., "TRIPOD+AI statement", BMJ 385, 2024.
    Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePath

import pandas as pd

from cxr_pipeline.report.content import TRAINING, ReportContent
from cxr_pipeline.report.formatting import (
    Document,
    Link,
    as_text,
    join,
    measure,
    number,
    percent,
    plural,
    value_of,
    words,
)
from cxr_pipeline.report.kinds import kind_of
from cxr_pipeline.report.page import RESEARCH, Block, Page, Section, Table, Verdict
from cxr_pipeline.report.sections import data, results
from cxr_pipeline.report.sections.decision_rule import decision_rule
from cxr_pipeline.report.warnings import majority, poor_auc

PARAMETERS = (
    "resolution.size", "resolution.mode", "morphology.steps", "model.pooling",
    "training.loss", "training.optimizer", "training.learning_rate", "training.epochs", "training.batch_size",
    "training.fine_tuning.epochs", "training.seed", "resampling.plan", "resampling.class_weights",
)  # fmt: skip
# How the network of the selected epoch was trained, by the phase of this epoch; see `training.phases`.
TRAINED = {
    "training": "trained from scratch",
    "frozen": "initialised with {weights} and trained in its head only",
    "fine_tuning": "initialised with {weights} and fine-tuned in its last layers",
}


def render_report(content: ReportContent) -> str:
    """Render the report as HTML, without names of images or patients."""
    intro = f"{RESEARCH} The model card, model_card.md in MLflow, has the same content as text."
    return _page(content, f"{content.task['title']}: {_name(content)}", intro).html()


def render_card(content: ReportContent) -> str:
    """Render the model card of a version as Markdown, without names of images or patients."""
    intro = f"{RESEARCH} Items refer to CLAIM (2020, updated 2024) and TRIPOD+AI (2024)."
    return _page(content, f"Model card: {content.task['title']}", intro).markdown()


def _page(content: ReportContent, title: str, intro: str) -> Page:
    """Make a page with the verdict first, then the numbers, then how they came about."""
    sections = [
        Section.warnings(content.warnings),
        results.performance(content),
        data.use(content),
        decision_rule(content.decision_rule),
        results.subgroups(content.subgroups),
        results.heat_maps(content),
        data.data(content),
        data.split(content),
        _model(content),
        data.monitoring(content.task["name"], phantom=content.metrics["phantom"]),
        data.limitations(content),
        data.not_answered(),
    ]
    return Page(title, _verdict(content), sections, content.metrics["phantom"], [intro])


def _verdict(content: ReportContent) -> Verdict:
    """Say whether the model is better than chance, with the headline metrics, and the run and version they are of."""
    kind, metrics, version = content.kind, content.metrics, content.version
    n_images, patients = metrics["n_images"], content.split_counts["test"]["patients"]
    poor = poor_auc(kind, metrics) or kind.collapsed(metrics) or majority(metrics)
    facts = {
        "Date": version["registered"],
        "MLflow run": Link(version["run_id"], version.get("run_url")),
        "Version": _name(content),
        "Test images": f"{n_images:,}" + (f", of {plural(patients, 'patient')}" if patients else ""),
        "Intervals": f"{percent(metrics['intervals']['confidence'])} confidence",
    }
    return Verdict(
        poor or f"The {kind.auc} is better than chance on {plural(n_images, 'test image')}.",
        {label: measure(metrics["metrics"][name]) for name, label in kind.bounds.items()},
        facts,
        alarming=bool(poor),
    )


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


def _model(content: ReportContent) -> Section:
    parameters, phases = content.parameters, set(content.history["phase"])
    main = [name for name in PARAMETERS if "fine_tuning" in phases or "fine_tuning" not in name]
    figures = [name for name in TRAINING if name != "augmentation_preview" or _is_augmented(content)]
    blocks: list[Block] = [
        _network(content),
        _pretraining(content.data_report.get("pretraining")),
        "The pixels of one image are its only input: no age, sex, earlier image or report.",
        f"{_selection(content)} {_ensemble(content)} {_balance(content)}",
        {name: content.figures[name] for name in figures if name in content.figures},
        Section("Main parameters", [_parameters(parameters, main)], style="folded"),
        Section("Training history", [_history(content.history)], style="folded", html_only=True),
        Section(
            f"All {plural(len(parameters), 'parameter')}",
            [_parameters(parameters, parameters)],
            "As configured. Some do not apply to every network, such as those of fine-tuning.",
            style="folded",
            html_only=True,
        ),
        Section("Provenance", [_provenance(content)], "Software: of the process that wrote this page.", style="folded"),
    ]
    return Section("Model", blocks, items="CLAIM 9, 22 to 27; TRIPOD+AI 7, 9, 12, 13, 22", anchor="model")


def _provenance(content: ReportContent) -> Table:
    facts = {
        "model digest": content.version.get("digest"),
        "data digest": content.data_report["data_digest"],
        "test digest": content.metrics.get("images_digest"),
        "git commit of the training": content.version["git_commit"],
    }
    known = {name: value for name, value in facts.items() if value}
    return Table.of_pairs({**known, **content.versions}, style="code")


def _history(history: pd.DataFrame) -> Table | None:
    columns = history if history["member"].max() > 1 else history.drop(columns="member")
    return Table.of_frame(columns.assign(phase=history["phase"].map(words)))


def _network(content: ReportContent) -> str:
    kind, network = content.kind, content.model
    weights = "ImageNet weights"
    if network["weights"] != "imagenet":
        weights = f"the weights in {PurePath(network['weights']).name}"
    return (
        f"A {words(network['name'])} network with {network['n_parameters']:,} parameters, "
        f"{TRAINED[network['phase']].format(weights=weights)}, {kind.text(kind.purpose)}. Its input is a greyscale "
        f"image of {network['size']} x {network['size']} pixels; its output is {kind.text(kind.output)}."
    )


def _pretraining(weights: Document | None) -> str:
    """Say where weights of a file come from, and how many test images were left out because of them."""
    if not weights:
        return ""
    about = {
        "from": weights["source"],
        "licence": weights["licence"],
        "trained on": join([name.replace("_", " ") for name in weights["trained_on"]]),
    }
    known = [f"{label} {text}" for label, text in about.items() if text]
    seen = (
        f"{plural(n, 'test image')} {'was' if n == 1 else 'were'} used in pretraining, or other images of the same "
        "patients, and left out of all figures."
        if (n := len(weights["seen"]))
        else ""
    )
    return f"Pretrained weights: {weights['weights']} ({', '.join(known) or 'of unknown origin'}). {seen}"


def _selection(content: ReportContent) -> str:
    """Say which epoch was selected, and why."""
    monitor, n_epochs = content.parameters["training.monitor"], content.history["epoch"].max()
    if len(content.model["epochs"]) > 1:
        return f"Each network was trained for all {n_epochs} epochs: no image chose an epoch."
    if content.history[monitor].isna().all():
        return f"The {words(monitor)} is undefined, so that the last of {n_epochs} epochs was selected."
    return (
        f"Epoch {content.model['epochs'][0]} of {n_epochs} was selected: the latest with a "
        f"{words(monitor)} within {as_text(content.parameters['training.tolerance'])} of the best."
    )


def _ensemble(content: ReportContent) -> str:
    n = len(content.model["epochs"])
    views = int(content.metrics.get("views", 1))
    network = "It is a single network, not an ensemble."
    if n > 1:
        network = (
            f"It is an ensemble of {n} networks, whose probabilities are averaged: the training and validation "
            f"patients were divided into {n} folds, and each network was validated on one and trained on the others."
        )
    if views == 1:
        return network
    return (
        f"{network} Each score is the mean over {views} views of an image, the image itself and {views - 1} slightly "
        f"changed, which takes {views} times as long."
    )


def _balance(content: ReportContent) -> str:
    """Say how classes were balanced in training."""
    count, weight = content.sampling_plan["count"], content.sampling_plan["weight"]
    shown = count.groupby(content.sampling_plan["sha256"]).max()
    measures = {
        "some images were shown more than once in an epoch": (count > 1).any(),
        f"{plural(int((shown == 0).sum()), 'image')} of the training split were left out": (shown == 0).any(),
        "images were weighted by class": len(set(weight[count > 0])) > 1,
        "the loss was weighted by class": content.parameters["training.loss"] == "weighted_cross_entropy",
    }
    applied = [measure for measure, applies in measures.items() if applies]
    return f"To balance the classes, {join(applied)}." if applied else "Classes were not balanced in training."


def _is_augmented(content: ReportContent) -> bool:
    """Return whether the network was trained on changed images; a frozen backbone sees a number of views of each."""
    values = {name: value for name, value in content.parameters.items() if name.startswith("augmentation.")}
    views, _ = values.pop("augmentation.views"), values.pop("augmentation.seed", None)
    return any(values.values()) and bool(views or "training" in set(content.history["phase"]))


def _parameters(values: Document, names: Iterable[str]) -> Table:
    rows = [(name, json.dumps(values[name], ensure_ascii=False, default=str)) for name in names if name in values]
    return Table(("parameter", "value"), rows, "code")
