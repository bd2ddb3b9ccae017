"""The page of a drift check: how new images differ from those that a model was trained with.

``report`` is the content of ``drift_report.json``.
"""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS
from cxr_pipeline.report.figures.style import BLUE, GREY, LIGHT, ORANGE, png, sheet
from cxr_pipeline.report.pages.page import Picture
from cxr_pipeline.report.rendering import fill, png_uri
from cxr_pipeline.report.words.tables import Table
from cxr_pipeline.report.words.text import listed, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Report = Mapping[str, Any]

MOST_ROWS, MOST_PANELS, COLUMNS = 40, 16, 4
INCHES_WIDE = 9.0
LARGEST_DRAWN = 6.0
VERDICTS = {"none": "no drift found", "warn": "WARN", "refuse": "REFUSE", "unknown": "cannot be told"}
MEANINGS = {
    "pixels": "What the prepared images look like, in a few numbers an image.",
    "features": "Whether a classifier can tell new images from old ones by what the network sees in them.",
    "scores": "The probabilities that the model gives.",
    "prevalence": "How often each label is positive.",
    "calibration": "Whether probabilities still mean what they say: observed less expected.",
}
CAUSES = {
    "pixels": "Put a handful of new images beside training images. Another machine, exposure, processing, cropping or "
    "orientation shows there.",
    "features": "The network sees something in these images that its own did not have. Look for another machine, view, "
    "age or kind of patient, and for tubes, texts and markers.",
    "scores": "More or fewer images than before will be called positive. If nothing else has drifted, the patients "
    "themselves may be others.",
    "prevalence": "The finding is more or less frequent than in training. Precision changes with it, and a threshold "
    "chosen for the old frequency may no longer suit.",
    "calibration": "Check the labels first: swapped or shifted ones look just like this. If they are right, the "
    "probabilities and thresholds no longer hold and the model needs training on such images.",
}
WHAT_TO_DO = {
    "none": "Nothing. These images can be scored and taken into the next training.",
    "warn": "Go on, but look. Scoring them is possible; whoever uses the decisions should know of this page. Label "
    "some of these images and compare the model's decisions with them before relying on it.",
    "refuse": "Do not rely on the model for these images, and do not train on them, before someone has looked at them.",
    "unknown": "Nothing can be concluded, neither that the images are alike nor that they differ. Collect more images of "
    "more patients, and check again.",
}


def draw_effects(report: Report) -> bytes:
    """A row for each test: its effect in units of the limit from which it is a finding.

    Filled points are significant after correction. The line at 1 is where a finding begins, the small tick where it
    is refused. Of more than 40 tests the largest effects are drawn.

    Returns:
        PNG bytes.
    """
    rows = [
        (family["name"], test, _relative(test["effect"], report["limits"][family["name"]], family["name"]))
        for family in report["families"]
        for test in family["tests"]
    ]
    kept = sorted(sorted(range(len(rows)), key=lambda place: -rows[place][2])[:MOST_ROWS])
    with sheet(height=1.1 + 0.26 * max(len(kept), 2), width=INCHES_WIDE) as figure:
        axes = figure.subplots()
        axes.axvspan(0, 1, color=LIGHT, alpha=0.6)
        axes.axvline(1, color=GREY, linewidth=1)
        for place, (name, test, effect) in enumerate(rows[row] for row in kept):
            _draw_effect(axes, place, test, min(effect, LARGEST_DRAWN), report, name)
        labels = [f"{rows[row][0]}: {_named(rows[row][1]['name'])}" for row in kept]
        axes.set_yticks(range(len(kept)), [textwrap.shorten(label, 60) for label in labels], fontsize=9)
        axes.set(xlim=(0, 1.05 * LARGEST_DRAWN), ylim=(max(len(kept), 1) - 0.5, -0.5))
        axes.set_xlabel("effect, in units of the limit from which it is a finding")
        axes.grid(visible=False, axis="y")
        return png(figure)


def draw_distributions(report: Report) -> bytes | None:
    """The distribution of each value, of the model's own images and of new ones; at most 16, findings first.

    Returns:
        PNG bytes; None where there is nothing to draw.
    """
    drawn = [
        (family["name"], test)
        for family in report["families"]
        for test in family["tests"]
        if test["histogram"] is not None
    ]
    drawn = sorted(drawn, key=lambda each: each[1]["verdict"] == "none")[:MOST_PANELS]
    if not drawn:
        return None
    n_rows = -(-len(drawn) // COLUMNS)
    with sheet(height=0.5 + 1.75 * n_rows, width=INCHES_WIDE) as figure:
        panels = figure.subplots(n_rows, COLUMNS, squeeze=False).ravel()
        for axes, (family, test) in zip(panels, drawn, strict=False):
            _draw_distribution(axes, family, test)
        for axes in panels[len(drawn) :]:
            axes.remove()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=2)
        return png(figure)


def render_drift(report: Report) -> str:
    """Write the page.

    Returns:
        HTML that loads nothing from anywhere. Names of images' folders, models and classes are escaped.
    """
    pictures = []
    if any(family["tests"] for family in report["families"]):
        words = (
            "Each point is a test. Filled ones are significant after correction for all tests; right of the line they "
            "are findings, and right of the tick they are refused."
        )
        pictures.append(Picture("How large the differences are", words, png_uri(draw_effects(report)), "dense"))
    distributions = draw_distributions(report)
    if distributions is not None:
        words = (
            "Grey areas are the model's own images, lines the new ones, orange where it is a finding. Of the features "
            "it is the score of a classifier that tries to tell new images from old ones."
        )
        pictures.append(Picture("Distributions", words, png_uri(distributions), "dense"))
    return fill(
        "drift.html.j2",
        task={"name": report["task"], "title": report["title"]},
        phantom=report["phantom"],
        verdict=VERDICTS[report["verdict"]],
        alarming=report["verdict"] in ("warn", "refuse"),
        sentence=report["sentence"],
        what=_what(report),
        found=[_found(family) for family in report["families"]],
        to_do=WHAT_TO_DO[report["verdict"]],
        causes=[CAUSES[family["name"]] for family in report["families"] if family["verdict"] in ("warn", "refuse")],
        how_sure=_how_sure(report),
        warnings=_warnings(report),
        pictures=pictures,
        tests=_tests(report),
        limits=_limits(report),
        statistics=Table(("", ""), tuple((spelled(name), meaning) for name, meaning in STATISTICS.items())),
    )


def _what(report: Report) -> str:
    new, reference, model = report["new_images"], report["reference"], report["model"]
    version = f"{model['name']} {model['version']}" if model["name"] else model["uri"]
    return (
        f"{new['looked_at']:,} new images from {new['place']} with the images that {version} comes from: pixels and "
        f"prevalence with {reference['training_images']:,} of its training images, what the network makes of them with "
        f"{reference['validation_images']:,} validation images, since it knows its training images by heart. Of each "
        "patient one image was drawn."
    )


def _found(family: Mapping[str, Any]) -> dict[str, str]:
    notable = [test for test in family["tests"] if test["verdict"] in ("warn", "refuse")]
    if notable:
        said = "; ".join(f"{_named(test['name'])}: {_change(test)}" for test in notable)
    elif family["tests"]:
        said = f"nothing in {len(family['tests'])} test{'s' if len(family['tests']) > 1 else ''}"
    else:
        said = "not tested"
    verdict = VERDICTS[family["verdict"]]
    return {"name": family["name"], "verdict": verdict, "meaning": MEANINGS[family["name"]], "said": said}


def _change(test: Mapping[str, Any]) -> str:
    if test["test"] == "domain classifier":
        return f"new images are told from old ones with an AUC of {test['effect']:.2f}"
    return f"{_number(test['reference'])} then, {_number(test['new'])} now"


def _how_sure(report: Report) -> str:
    n_tests = sum(len(family["tests"]) for family in report["families"])
    return (
        f"{n_tests} tests were made. A finding needs two things: a p-value below {report['alpha']:g} after Holm's "
        "correction for all of them, and an effect that reaches its limit. Images without any drift thus lead to a "
        f"finding in at most {100 * report['alpha']:g} of 100 checks. That nothing is found does not prove that "
        "nothing has changed: with few images only large changes can be seen."
    )


def _warnings(report: Report) -> list[str]:
    """What a reader must know, the most important first."""
    new, reference = report["new_images"], report["reference"]
    found = []
    n_refused = sum(new["refused"].values())
    if n_refused:
        reasons = listed([f"{count:,} {spelled(reason)}" for reason, count in new["refused"].items()])
        found.append(f"{n_refused:,} of {new['drawn']:,} new images could not be used and are in no test: {reasons}.")
    if new["without_patient"]:
        found.append(
            f"Of {new['without_patient']:,} of {new['images']:,} new images the patient is not known. Each was taken for "
            "a patient of its own. If several are of one patient, the tests are too sure of themselves and find drift "
            "too easily."
        )
    if new["left_out"]:
        found.append(f"{new['left_out']:,} new images do not belong to this task or have no label that it knows.")
    if not reference["stored"]:
        found.append(
            "The model's run has left no profile of its images. They were taken from today's manifest and splits, where "
            "images may be that came after the model was trained."
        )
    notes: dict[str, list[str]] = {}
    for family in report["families"]:
        for note in family["notes"]:
            notes.setdefault(note, []).append(family["name"])
    return found + [f"{listed(families).capitalize()}: {note}" for note, families in notes.items()]


def _tests(report: Report) -> Table | None:
    rows = [
        (
            family["name"],
            _named(test["name"]),
            "" if test["verdict"] == "none" else test["verdict"],
            f"{test['effect_name']} {test['effect']:.3f}",
            _p_value(test["p_holm"]),
            f"{_number(test['reference'])} ({test['n_reference']:,})",
            f"{_number(test['new'])} ({test['n_new']:,})",
            test["test"],
            _p_value(test["p_value"]),
        )
        for family in report["families"]
        for test in family["tests"]
    ]
    heads = ("", "what", "verdict", "effect", "p after Holm", "own images (n)", "new images (n)", "test", "p-value")
    return Table(heads, tuple(rows)) if rows else None


def _limits(report: Report) -> Table:
    rows = [
        (name, f"{limits['warn']:g}", "never" if limits["refuse"] is None else f"{limits['refuse']:g}")
        for name, limits in report["limits"].items()
    ]
    return Table(("", "warn from", "refuse from"), tuple(rows))


def _relative(effect: float, limits: Mapping[str, float], family: str) -> float:
    """An effect in units of its limit; that of an AUC counts from 0.5."""
    nothing = 0.5 if family == "features" else 0.0
    limit = limits["warn"] - nothing
    return max(0.0, effect - nothing) / limit if limit > 0 else LARGEST_DRAWN


def _draw_effect(axes: "Axes", place: int, test: Mapping[str, Any], effect: float, report: Report, family: str) -> None:
    color = BLUE if test["verdict"] == "none" else ORANGE
    significant = test["p_holm"] < report["alpha"]
    limits = report["limits"][family]
    axes.plot([0, effect], [place, place], color=color, linewidth=1)
    axes.plot(effect, place, "o", color=color, markersize=6, markerfacecolor=color if significant else "white")
    if limits["refuse"] is not None:
        refused = min(_relative(limits["refuse"], limits, family), 1.04 * LARGEST_DRAWN)
        axes.plot([refused, refused], [place - 0.3, place + 0.3], color=GREY, linewidth=1.5)


def _draw_distribution(axes: "Axes", family: str, test: Mapping[str, Any]) -> None:
    shown = test["histogram"]
    color = BLUE if test["verdict"] == "none" else ORANGE
    axes.stairs(shown["reference"], shown["edges"], fill=True, color=GREY, alpha=0.4, label="own images")
    axes.stairs(shown["new"], shown["edges"], color=color, linewidth=1.8, label="new images")
    name = _named(test["name"]) if family == "pixels" else f"{family}: {_named(test['name'])}"
    axes.set_title(textwrap.shorten(name, 30), fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.set_yticks([])
    axes.grid(visible=False)


def _named(name: str) -> str:
    return spelled(name)


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _p_value(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "below 0.001"
