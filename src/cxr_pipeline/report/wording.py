"""The sentences of a report, each a function of the numbers it speaks of.

``metrics``, ``decision_rule`` and ``data_report`` are the JSON documents of a run, where null stands for a number that
is not defined. ``classes`` names the negative and then the positive class. ``split_counts`` gives, for each split, the
number of films of each class and, under ``"patients"``, the number of patients or None.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

Document = Mapping[str, Any]
SplitCounts = Mapping[str, Mapping[str, int | None]]

POOR_AUC = 0.6
FEW_FILMS = 30
ONE_CLASS = 0.05


def what_was_trained(classes: Sequence[str], model: Document) -> str:
    """Which network, from which start, for which question."""
    negative, positive = classes
    starts = {"none": "trained from scratch", "imagenet": "starting from ImageNet weights"}
    start = starts.get(model["weights"], f"starting from the weights in {PurePath(model['weights']).name}")
    return (
        f"A {model['name']} network of {model['n_parameters']:,} parameters, {start}, to tell films labelled "
        f"{positive} from films labelled {negative}. It sees each film as {model['size']} x {model['size']} grey "
        f"pixels and gives the probability of {positive}."
    )


def on_whom(data_report: Document, split_counts: SplitCounts) -> str:
    """How many films and patients, and where they come from."""
    films = {split: films_in(counts) for split, counts in split_counts.items()}
    sources = list(data_report["sources"])
    drawn = ", drawn by a program" if data_report["phantom"] else ""
    n_patients, n_unknown = data_report["n_patients"], data_report["n_films_without_patient"]
    if n_patients:
        known = "They" if n_unknown == 0 else f"All but {n_unknown:,} of them"
        patients = f"{known} are of {n_patients:,} patients, each of whom is in one of these parts only."
    else:
        patients = "Whose films they are is not known."
    return (
        f"It learned from {films['train']:,} films. {films['validation']:,} others decided when to stop and where to "
        f"put the threshold, and it was tested on {films['test']:,} that it had not seen. All come from "
        f"{_sources(sources)}{drawn}. {patients}"
    )


def how_good(metrics: Document, classes: Sequence[str]) -> str:
    """The verdict if it is bad, then AUC, sensitivity, specificity and precision as so many of a hundred."""
    negative, positive = classes
    auc, sensitivity, specificity, precision = (
        _value(metrics, name) for name in ("auc", "sensitivity", "specificity", "precision")
    )
    sentences = [verdict] if (verdict := no_good(metrics)) else []
    if auc is not None:
        sentences.append(
            f"Of 100 pairs of films, one labelled {positive} and one labelled {negative}, it gives the {positive} "
            f"film the higher probability in about {_of_100(auc)} (AUC {auc:.3f}; guessing gets 50)."
        )
    if sensitivity is not None:
        sentences.append(f"Of 100 films labelled {positive} about {_of_100(sensitivity)} are found.")
    if specificity is not None:
        sentences.append(f"Of 100 films labelled {negative} about {_of_100(specificity)} are rightly called so.")
    if precision is not None:
        sentences.append(
            f"Of 100 films that it calls {positive} about {_of_100(precision)} are labelled so, where "
            f"{_of_100(metrics['prevalence'])} of 100 films are, as in the test; where fewer are, its alarms are "
            "wrong more often."
        )
    return " ".join(sentences)


def how_sure(metrics: Document) -> str:
    """The intervals, what they rest on, and what they leave out."""
    bounds = [
        f"the {label} lies between {low:.3f} and {high:.3f}"
        for name, label in (("auc", "AUC"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
        if (low := _value(metrics, name, "low")) is not None and (high := _value(metrics, name, "high")) is not None
    ]
    if not bounds:
        return "No interval could be computed from these test films."
    drawn = {
        "patient": "patients drawn whole, with all their films",
        "film": "films drawn one by one, because it is not known which belong to one patient",
    }
    intervals = metrics["intervals"]
    return (
        f"With {100 * intervals['confidence']:g} % confidence, {_listed(bounds)} ({intervals['replicates']:,} "
        f"bootstrap replicates; {drawn[intervals['clustered_by']]}). That covers chance in the choice of the test "
        "films alone: another hospital, another machine or another training run can differ by more."
    )


def not_for(classes: Sequence[str], data_report: Document) -> list[str]:
    """What the model must not be used for."""
    negative, positive = classes
    return [
        "It is for research. It is not a medical device, and nobody has examined it as one.",
        "It must not be used to diagnose, to sort patients by urgency, or for any decision about a patient.",
        f"It was tested only on films from {_sources(list(data_report['sources']))}, which it learned from too. "
        "On films from elsewhere expect worse.",
        "It learned what the labels of its sources say. Where they are wrong, so is it, and the test does not show it.",
        f"It knows two answers. A film that shows something else is called {positive} or {negative} all the same.",
    ]


def warnings(
    metrics: Document, decision_rule: Document, data_report: Document, split_counts: SplitCounts, classes: Sequence[str]
) -> list[str]:
    """Everything that a reader must know before believing a number, the worst first."""
    found = (
        no_good(metrics),
        collapsed(metrics, classes),
        policy_missed(decision_rule),
        patients_unknown(metrics, data_report),
        few_test_films(split_counts, classes),
    )
    return [warning for warning in found if warning is not None]


def no_good(metrics: Document) -> str | None:
    """A model that may be guessing, or does little better, or whose AUC is unknown."""
    auc, low, high = (_value(metrics, "auc", key) for key in ("value", "low", "high"))
    if auc is None:
        return "Nobody can tell whether this model is any good: its AUC is not defined on these test films."
    if high is not None and high < 0.5:
        return f"This model is no good: it is worse than guessing (AUC {auc:.3f}). Are the labels swapped?"
    if low is not None and low <= 0.5:
        return f"This model is no good: with an AUC of {auc:.3f} ({low:.3f} to {high:.3f}) it may be guessing."
    if auc < POOR_AUC:
        return (
            f"This model is no good: its AUC of {auc:.3f} is {'no' if auc <= 0.5 else 'little'} better than guessing."
        )
    return None


def collapsed(metrics: Document, classes: Sequence[str]) -> str | None:
    """A decision that is, but for one film in twenty of either class, always the same."""
    sensitivity, specificity = _value(metrics, "sensitivity"), _value(metrics, "specificity")
    if sensitivity is None or specificity is None:
        return None
    negative, positive = classes
    if min(sensitivity, specificity) > ONE_CLASS or max(sensitivity, specificity) < 1 - ONE_CLASS:
        return None
    name = positive if sensitivity > specificity else negative
    return f"This model has collapsed into one class: it calls nearly every film {name}, whatever it shows."


def policy_missed(decision_rule: Document) -> str | None:
    """A threshold that does not do what its policy asks."""
    if decision_rule["policy_met"]:
        return None
    return f"The threshold does not keep to its policy. {decision_rule['message']}"


def patients_unknown(metrics: Document, data_report: Document) -> str | None:
    """Films whose patient nobody knows, so that one patient's may lie on both sides of the split."""
    n_unknown = data_report["n_films_without_patient"]
    if not n_unknown:
        return None
    silent = [name for name, source in data_report["sources"].items() if not source["has_patients"]]
    where = f" ({_sources(silent)} {'does' if len(silent) == 1 else 'do'} not say)" if silent else ""
    drawn = "by film" if metrics["intervals"]["clustered_by"] == "film" else "by film where the patient is not known"
    return (
        f"The patient is not known for {n_unknown:,} of {data_report['n_films']:,} films{where}. One "
        "patient's films may be in training and in test, which makes a model look better than it is. The intervals are "
        f"{drawn}, and may be too narrow."
    )


def few_test_films(split_counts: SplitCounts, classes: Sequence[str]) -> str | None:
    """A class with so few test films that what is said of it is rough."""
    few = [f"{count} labelled {name}" for name in classes if (count := split_counts["test"].get(name) or 0) < FEW_FILMS]
    if not few:
        return None
    return f"There are few test films: {_listed(few)}. Below {FEW_FILMS} of a class every number about it is rough."


def films_in(counts: Mapping[str, int | None]) -> int:
    """Films of one split, over its classes."""
    return sum(count or 0 for name, count in counts.items() if name != "patients")


def _value(metrics: Document, name: str, key: str = "value") -> float | None:
    value = metrics["metrics"].get(name, {}).get(key)
    return None if value is None or math.isnan(value) else float(value)


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _sources(names: Sequence[str]) -> str:
    return f"the source{'s' if len(names) > 1 else ''} {_listed([f'“{name}”' for name in names])}"
