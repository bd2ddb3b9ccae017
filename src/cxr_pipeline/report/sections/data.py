"""Sections on the intended use, the data, the split, the monitoring of a model and its limitations."""

from cxr_pipeline.report.content import ReportContent
from cxr_pipeline.report.formatting import Document, join, plural, sources_named, wording, words
from cxr_pipeline.report.page import Block, Section, Table
from cxr_pipeline.report.sections.decision_rule import fitted_parts

UNKNOWN = "unknown"


def use(content: ReportContent) -> Section:
    """State what the model is for, and uses for which it is unsuitable."""
    kind, (internal, external) = content.kind, _tested(content)
    used = {"also used for training or validation": internal, "used for testing only": external}
    tested = " and from ".join(f"{sources_named(names)}, {how}" for how, names in used.items() if names)
    purpose = (
        f"For researchers with knowledge of radiology and statistics: {kind.text(kind.purpose)}. The model returns "
        f"{kind.text(kind.output)}."
    )
    out_of_scope = [text.format(tested=tested, limits=kind.text(kind.limits)) for text in wording()["out_of_scope"]]
    blocks: list[Block] = [purpose, "Out of scope:", out_of_scope]
    return Section("Intended use", blocks, items="CLAIM 4, 6; TRIPOD+AI 4, 27b", anchor="use")


def _tested(content: ReportContent) -> tuple[list[str], list[str]]:
    """Return the sources with test images: those used in training or validation, and the others."""
    tested = {name: images for name, images in content.source_counts.items() if images["test"]}
    internal = [name for name, images in tested.items() if images["train"] or images["validation"]]
    return internal, [name for name in tested if name not in internal]


def data(content: ReportContent) -> Section:
    """Count images and patients by source, class and split; names of images, which may name patients, are not shown."""
    report, sources = content.data_report, content.data_report["sources"]
    reasons = content.quarantine["reason"].value_counts()
    quarantined = Table(("reason", "images"), [(words(reason), count) for reason, count in reasons.items()])
    listed = (
        "quarantine.csv, in the same folder, lists these images. Their names may contain patients' names and are not "
        "shown here."
    )
    counts = [
        {
            "source": name,
            "rows": source["rows_in_source"],
            "excluded": sum(source["left_out"].values()),
            "not on disk": source["not_on_disk"],
            "quarantined": sum(source["quarantine"].values()),
            "usable": source["manifest"],
            "patients": source["n_patients"] if source["has_patients"] else UNKNOWN,
        }
        for name, source in sources.items()
    ]
    excluded = [
        (name, words(reason), count)
        for name, source in sources.items()
        for reason, count in source["left_out"].items()
        if count
    ]
    blocks: list[Block] = [
        _images_and_patients(content),
        f"Of duplicate images one is kept. {_uncertain_labels(content)} In MLflow, images are identified by the hash "
        "of their content and patients by a keyed hash.",
        [f"{name}: {note}" for name, source in sources.items() for note in source["notes"]],
        Table.of_rows(counts, style="counted"),
        Table(("source", "excluded because of", "rows"), excluded),
        Section("Confounding: images by class and source", [_confounding(report)]),
        Section("Quarantined images", [quarantined, listed] if quarantined else ["None."]),
        Section("All images", [_all_images(report)], style="folded"),
    ]
    return Section("Data", blocks, items="CLAIM 7, 9 to 11, 13, 33; TRIPOD+AI 5a, 7, 11, 20", anchor="data")


def _images_and_patients(content: ReportContent) -> str:
    report, shown = content.data_report, content.sampling_plan.query("count > 0")["sha256"].nunique()
    images = {split: counts["images"] or 0 for split, counts in content.split_counts.items()}
    drawn = [name for name in report["sources"] if content.parameters.get(f"sources.{name}.layout") == "phantoms"]
    synthetic = f" Those from {sources_named(drawn)} are synthetic." if drawn else ""
    if len(drawn) == len(report["sources"]):
        synthetic = " They are synthetic."
    fitted = fitted_parts(content.decision_rule)
    chosen = join(["the epoch", *fitted])
    n_patients, n_unknown = report["n_patients"], report["n_images_without_patient"]
    if n_patients:
        known = f"The patient is known for all but {n_unknown:,} of them. The others" if n_unknown else "They"
        patients = f" {known} are from {plural(n_patients, 'patient')}, each in one split only."
    else:
        patients = " Their patients are unknown."
    used = f"{images['validation']:,} others were used to choose {chosen}, and {images['test']:,} to test it."
    if len(content.model["epochs"]) > 1:
        # No image chooses an epoch of an ensemble.
        each = f"For the choice of {join(fitted)}, each" if fitted else "Each"
        used = (
            f"{each} of them was scored by the network that was not trained on it. "
            f"{images['test']:,} others were used to test it."
        )
    return (
        f"The model was trained on {plural(shown, 'image')}. {used} All images are from "
        f"{sources_named(list(report['sources']))}.{synthetic}{patients}"
    )


def _uncertain_labels(content: ReportContent) -> str:
    """State how uncertain and unknown labels are treated."""
    policy = content.parameters["task.uncertain"]
    counted = f"Labels that a source marks as uncertain count as {policy}. " if policy != "unknown" else ""
    doubtful = "unknown" if counted else "unknown or that a source marks as uncertain"
    if content.kind.exclusive:
        return f"{counted}Images whose class depends on a label that is {doubtful} are left out."
    return f"{counted}Labels that are {doubtful} are ignored in the loss and in the metrics; they are not imputed."


def _confounding(data_report: Document) -> Table | None:
    """Count images by class and source, with the AUC of the source alone."""
    measured = data_report.get("confounding")
    if not measured:
        return None
    names = dict.fromkeys(source for images in measured["n_images"].values() for source in images)
    rows = [
        (name, *(images.get(source, 0) for source in names), measured["per_class"].get(name, {"auc": ""})["auc"])
        for name, images in measured["n_images"].items()
    ]
    return Table(("class", *names, "AUC of the source alone"), rows, "counted")


def _all_images(data_report: Document) -> Table:
    unlabelled = data_report.get("unknown_labels", {})
    tallies = {"age in years": data_report["age"], "sex": data_report["sex"], "view": data_report["view"]}
    values = {
        "images": data_report["n_images"],
        "patients": data_report["n_patients"] or UNKNOWN,
        "images without a patient": data_report["n_images_without_patient"],
        **{f"images labelled {name}": count for name, count in data_report["classes"].items()},
        **{f"images with unknown label {name}": count for name, count in unlabelled.items() if count},
        **{label: _tally(tally) for label, tally in tallies.items()},
        "data digest": data_report["data_digest"],
    }
    return Table.of_pairs(values, style="long")


def _tally(counts: Document) -> str:
    """Write counts of values, or the number of known values and their quantiles."""
    known = {"known for": counts["n_known"]} if "n_known" in counts else {}
    values = {**known, **{words(name): value for name, value in counts.items() if name != "n_known"}}
    return ", ".join(f"{name} {value:,g}" for name, value in values.items() if value is not None)


def split(content: ReportContent) -> Section:
    """State how images were assigned, and count images and patients by split and class."""
    given = "" if content.parameters["splitting.ignore_given_split"] else ", unless a source defines the split"
    renewed = content.parameters["splitting.renew"]
    sentence = (
        "Assigned by patient, or by image where the patient is unknown, and stratified by class within each "
        f"source{given}. {wording()['splits']['renewed' if renewed else 'kept']} The run stops if a patient, or the "
        "same image, is in two splits."
    )
    counts, classes = content.split_counts.values(), content.task["classes"]
    rows = [
        *((name, *(images[name] for images in counts)) for name in (*classes, "images")),
        ("patients", *(UNKNOWN if images["patients"] is None else images["patients"] for images in counts)),
        *((f"share of {name}", *((each[name] or 0) / (each["images"] or 1) for each in counts)) for name in classes),
    ]
    table = Table(("", *content.split_counts), rows, "counted")
    return Section("Split", [sentence, table], items="CLAIM 20, 21; TRIPOD+AI 16, 21", anchor="splits")


def monitoring(task: str, *, phantom: bool) -> Section:
    """State how new images are monitored and how the model is updated."""
    demo = " --env demo" if phantom else ""
    blocks = [text.format(task=task, demo=demo) for text in wording()["monitoring"]]
    return Section("Monitoring and updates", blocks, items="TRIPOD+AI 24, 27a", anchor="monitoring")


def limitations(content: ReportContent) -> Section:
    """State whether the model was tested on a source that it was not trained on, and what retraining compares."""
    texts, (_, external) = wording()["limitations"], _tested(content)
    tested = texts["external"].format(sources=sources_named(external)) if external else texts["internal"]
    items = "CLAIM 32, 38; TRIPOD+AI 26"
    return Section("Limitations", [[tested, texts["retraining"]]], items=items, anchor="limitations")


def not_answered() -> Section:
    """List the information that a run does not have, with the items of the guidelines."""
    texts = wording()["not_answered"]
    table = Table(("unknown to this pipeline", "CLAIM", "TRIPOD+AI"), texts["items"], "long")
    items = Section("Missing information", [table], style="folded")
    return Section("Unknown to this pipeline", [texts["explanation"], items], anchor="unknown")
