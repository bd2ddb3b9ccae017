"""Section on the decision rule: how thresholds were chosen and probabilities calibrated."""

from cxr_pipeline.evaluation.decision_rule import ARGMAX
from cxr_pipeline.report.formatting import Document, as_text, as_yaml, join, wording, words
from cxr_pipeline.report.page import Block, Section, Table
from cxr_pipeline.report.warnings import calibrations

PER_RULE = ("threshold", "calibration", "policy_met", "message", "n_images", "n_positive")


def decision_rule(rule: Document) -> Section:
    """Show how thresholds were chosen and probabilities calibrated, for each class if there are several thresholds."""
    calibrated = {name: in_words(each, "method") for name, each in calibrations(rule).items()}
    facts = {
        "kind of task": words(rule["kind"]),
        "classes": rule["classes"],
        "threshold policy": in_words(rule["policy"], "rule"),
        "policy met": rule["policy_met"],
        words("message"): rule["message"],
        "validation images": rule["fitted_on"]["n_images"],
        "positive validation images": rule["fitted_on"].get("n_positive"),
        "threshold": None if "per_class" in rule else list(rule["thresholds"].values()),
        "calibration": calibrated.get(""),
    }
    has_thresholds = rule["policy"]["rule"] != ARGMAX
    rows = {
        name: {"calibration": calibrated.get(name)}
        | ({"threshold": rule["thresholds"][name], **each} if has_thresholds else {})
        for name, each in rule.get("per_class", {}).items()
        if has_thresholds or name in calibrated
    }
    blocks: list[Block] = [
        f"{_thresholds(rule)} {_calibration(rule)} The rule is stored with the model and does not change.",
        Table.of_pairs({name: value for name, value in facts.items() if value is not None}, style="long"),
        Table.of_labelled("class", rows, PER_RULE, "long"),
    ]
    items = "CLAIM 28; TRIPOD+AI 12, 15, 23"
    return Section("Decision rule and calibration", blocks, items=items, anchor="decision-rule")


def in_words(parameters: Document, name: str) -> str:
    """Write a policy or a calibration with its values: ``"Platt scaling (slope 0.8883)"``."""
    values = {key: as_yaml(value) if isinstance(value, float) else as_text(value) for key, value in parameters.items()}
    # A message is among the warnings.
    values = {key: text for key, text in values.items() if text and key != "message"}
    method = words(values.pop(name))
    return f"{method} ({', '.join(f'{key} {text}' for key, text in values.items())})" if values else method


def fitted_parts(rule: Document) -> list[str]:
    """Name the parts of a rule that were fitted on validation images."""
    n_outputs = len(rule["thresholds"])
    fitted = {
        "the calibration": any(each["method"] != "none" for each in calibrations(rule).values()),
        f"the threshold{'s' * (n_outputs > 1)}": len(_unfitted(rule)) < n_outputs,
    }
    return [part for part, applies in fitted.items() if applies]


def _thresholds(rule: Document) -> str:
    """Say how thresholds were chosen."""
    if not_fitted := wording()["not_fitted"].get(rule["policy"]["rule"]):
        return str(not_fitted)
    unfitted = _unfitted(rule)
    if len(unfitted) == len(rule["thresholds"]):
        return "No threshold was fitted, because the validation images are all positive or all negative."
    but = f", except for {join(unfitted)}, whose validation images are all positive or all negative" if unfitted else ""
    return f"Thresholds were fitted on validation images{but}."


def _unfitted(rule: Document) -> list[str]:
    """Name the outputs without a fitted threshold; one needs positive and negative validation images."""
    if rule["policy"]["rule"] in wording()["not_fitted"]:
        return list(rule["thresholds"])
    fitted_on: Document = rule.get("per_class") or dict.fromkeys(rule["thresholds"], rule["fitted_on"])
    return [name for name, each in fitted_on.items() if not 0 < each["n_positive"] < each["n_images"]]


def _calibration(rule: Document) -> str:
    """Say how probabilities are calibrated."""
    fitted = calibrations(rule)
    methods = sorted({words(each["method"]) for each in fitted.values() if each["method"] != "none"})
    if not methods:
        return "Probabilities are not calibrated: they are the outputs of the network and may differ from frequencies."
    failed = [name for name, each in fitted.items() if each["method"] == "none"]
    but = f", except for {join(failed)}, where the fit was not possible" if failed else ""
    return (
        f"Probabilities are calibrated with {join(methods)}, fitted on validation images{but}. They are not valid at "
        "another prevalence."
    )
