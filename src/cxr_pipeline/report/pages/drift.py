"""The page of a drift check and its figures; ``report`` is the content of ``drift_report.json``."""

import math
import textwrap

from markupsafe import Markup

from cxr_pipeline.deployment.drift.image_features import STATISTICS
from cxr_pipeline.report.figures import style
from cxr_pipeline.report.figures.style import BLUE, GREY, LIGHT, ORANGE, Axes
from cxr_pipeline.report.formatting import Document, join, number, of_100, p_value, plural, wording, words
from cxr_pipeline.report.page import RESEARCH, Block, Page, Section, Table, Verdict

DRIFTED = ("warn", "refuse")
MOST_ROWS, MOST_PANELS, PANELS_WIDE = 40, 16, 4
INCHES_DRIFT = 9.0
LARGEST_EFFECT = 6.0


def render_drift(report: Document) -> str:
    """Render the page as HTML."""
    tests, texts = _test_table(report), wording()["drift"]
    statistics = {words(name): text for name, text in STATISTICS.items()}
    figures = {"drift_effects": draw_effects(report), "drift_distributions": draw_distributions(report)}
    bounds = [
        (name, f"{each['warn']:g}", "never" if each["refuse"] is None else f"{each['refuse']:g}")
        for name, each in report["limits"].items()
    ]
    limits = Table(("", "warn from", "refuse from"), bounds, "counted")
    results: list[Block] = [
        Section("Tests", [tests], texts["reference"]) if tests else "No test was possible.",
        Section("Limits", [limits], texts["limits"], style="folded"),
        Section("Pixel statistics", [Table.of_pairs(statistics)], style="folded"),
    ]
    drifted = [family["name"] for family in report["families"] if family["verdict"] in DRIFTED]
    action: list[Block] = [texts["actions"][report["verdict"]], [texts["causes"][name] for name in drifted]]
    sections = [
        Section("Action", action, anchor="action"),
        Section.warnings(_warnings(report)),
        Section("Found", [[_family(family) for family in report["families"]]], anchor="found"),
        Section("Figures", [{name: png for name, png in figures.items() if png}], anchor="figures"),
        Section("Results", results, anchor="results"),
        Section("Comparison", [_compared(report), _uncertainty(report)], anchor="comparison"),
    ]
    intro = f"New images of the task “{report['task']}” compared with the reference images of its model. {RESEARCH}"
    return Page(f"{report['title']}: drift", _verdict(report), sections, report["phantom"], [intro], "drift").html()


def _verdict(report: Document) -> Verdict:
    """Give the verdict, that of each family of tests, and what was compared."""
    model, verdicts = report["model"], wording()["drift"]["verdicts"]
    return Verdict(
        f"Verdict: {verdicts[report['verdict']]}. {report['sentence']}",
        {family["name"]: verdicts[family["verdict"]] for family in report["families"]},
        {"New images": report["new_images"]["place"], "Model": _version(model), "MLflow run": model["run_id"] or ""},
        alarming=report["verdict"] in DRIFTED,
    )


def _version(model: Document) -> str:
    return f"{model['name']} {model['version']}" if model["name"] else str(model["uri"])


def _compared(report: Document) -> str:
    new, reference = report["new_images"], report["reference"]
    return (
        f"{plural(new['looked_at'], 'new image')} from {new['place']} with the images of {_version(report['model'])}: "
        f"pixels and prevalence with {plural(reference['training_images'], 'training image')}; features, scores and "
        f"calibration with {plural(reference['validation_images'], 'image')} that the network was not trained on, "
        "because it has memorised its training images. One image per patient was drawn."
    )


def _uncertainty(report: Document) -> str:
    return (
        f"Number of tests: {len(_tests(report))}. Drift requires a p-value below {report['alpha']:g} after Holm's "
        "correction for all tests, and an effect that reaches its limit. Without drift, at most "
        f"{of_100(report['alpha'])} of 100 checks find any. Finding no drift does not prove that there is none: with "
        "few images only large changes are detected."
    )


def _family(family: Document) -> str:
    texts, name, n_tests = wording()["drift"], family["name"], len(family["tests"])
    drifted = [f"{words(test['name'])}: {_change(test)}" for test in family["tests"] if test["verdict"] in DRIFTED]
    result = "; ".join(drifted) or (f"no drift in {plural(n_tests, 'test')}" if n_tests else "not tested")
    return Markup("<b>{}: {}.</b> {}. {}").format(
        name.capitalize(), texts["verdicts"][family["verdict"]], result[0].upper() + result[1:], texts["meanings"][name]
    )


def _change(test: Document) -> str:
    if test["test"] == "domain classifier":
        return f"a classifier distinguishes new from reference images with an AUC of {test['effect']:.2f}"
    return f"{_value(test['reference'])} before, {_value(test['new'])} now"


def _warnings(report: Document) -> list[str]:
    new, warnings = report["new_images"], []
    if n_rejected := sum(new["refused"].values()):
        reasons = join([f"{count:,} {words(reason)}" for reason, count in new["refused"].items()])
        warnings.append(f"{n_rejected:,} of {new['drawn']:,} new images were rejected and not tested: {reasons}.")
    if new["without_patient"]:
        warnings.append(
            f"The patient is unknown for {new['without_patient']:,} of {plural(new['images'], 'new image')}. Each "
            "counts as a separate patient. If several are from one patient, the p-values are too small and drift is "
            "found too easily."
        )
    if new["left_out"]:
        warnings.append(f"{plural(new['left_out'], 'new image')} without a class of this task are left out.")
    notes: dict[str, list[str]] = {}
    for family in report["families"]:
        for note in family["notes"]:
            notes.setdefault(note, []).append(family["name"])
    return warnings + [f"{join(families).capitalize()}: {note}" for note, families in notes.items()]


def _test_table(report: Document) -> Table:
    rows = [
        (
            family,
            words(test["name"]),
            "" if test["verdict"] == "none" else test["verdict"],
            f"{test['effect_name']} {number(test['effect'])}",
            p_value(test["p_holm"]),
            f"{_value(test['reference'])} ({test['n_reference']:,})",
            f"{_value(test['new'])} ({test['n_new']:,})",
            test["test"],
            p_value(test["p_value"]),
        )
        for family, test in _tests(report)
    ]
    columns = ("", "tested", "verdict", "effect", "p after Holm", "reference (n)", "new (n)", "test", "p-value")
    return Table(columns, rows, "tests")


def _tests(report: Document) -> list[tuple[str, Document]]:
    return [(family["name"], test) for family in report["families"] for test in family["tests"]]


def _value(value: float) -> str:
    return number(value, digits=1 if abs(value) >= 10 else 3)


def draw_effects(report: Document) -> bytes:
    """Draw the effect of each test, relative to the limit at which it counts as drift.

    Filled points are significant after correction, the line at 1 is the limit for a warning, the tick that for a
    refusal. Of more than 40 tests those with the largest effects are drawn. Empty without tests.
    """
    tests = [(_relative(test["effect"], report, family), family, test) for family, test in _tests(report)]
    if not tests:
        return b""
    largest = sorted(effect for effect, *_ in tests)[-MOST_ROWS:]
    kept = [each for each in tests if each[0] >= largest[0]][:MOST_ROWS]
    with style.sheet(height=1.1 + 0.26 * max(len(kept), 2), width=INCHES_DRIFT) as figure:
        axes = figure.subplots()
        axes.axvspan(0, 1, color=LIGHT, alpha=0.6)
        axes.axvline(1, color=GREY, linewidth=1)
        for place, (relative, family, test) in enumerate(kept):
            effect, color = min(relative, LARGEST_EFFECT), _color(test)
            face = color if test["p_holm"] < report["alpha"] else "white"
            axes.plot([0, effect], [place, place], color=color, linewidth=1)
            axes.plot(effect, place, "o", color=color, markersize=6, markerfacecolor=face)
            if report["limits"][family]["refuse"] is not None:
                refuse = min(_relative(report["limits"][family]["refuse"], report, family), 1.04 * LARGEST_EFFECT)
                axes.plot([refuse, refuse], [place - 0.3, place + 0.3], color=GREY, linewidth=1.5)
        labels = [textwrap.shorten(f"{family}: {words(test['name'])}", 60) for _, family, test in kept]
        axes.set_yticks(range(len(kept)), labels, fontsize=9)
        axes.set(xlim=(0, 1.05 * LARGEST_EFFECT), ylim=(len(kept) - 0.5, -0.5))
        axes.set_xlabel("effect, relative to the limit for a warning")
        axes.grid(visible=False, axis="y")
        return style.png(figure)


def draw_distributions(report: Document) -> bytes:
    """Draw up to 16 distributions of reference and new images, drifted ones first; empty if no test has a histogram."""
    drawn = [(family, test) for family, test in _tests(report) if test["histogram"] is not None]
    drawn = sorted(drawn, key=lambda each: each[1]["verdict"] == "none")[:MOST_PANELS]
    if not drawn:
        return b""
    with style.sheet(height=0.5 + 1.75 * math.ceil(len(drawn) / PANELS_WIDE), width=INCHES_DRIFT) as figure:
        for axes, (family, test) in zip(style.panels(figure, len(drawn), PANELS_WIDE), drawn, strict=True):
            _draw_distribution(axes, family, test)
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        return style.png(figure)


def _color(test: Document) -> str:
    return BLUE if test["verdict"] == "none" else ORANGE


def _relative(effect: float, report: Document, family: str) -> float:
    """Return an effect relative to its limit; the AUC of the domain classifier counts from 0.5."""
    no_effect = 0.5 if family == "features" else 0.0
    limit = report["limits"][family]["warn"] - no_effect
    return max(0.0, effect - no_effect) / limit if limit > 0 else LARGEST_EFFECT


def _draw_distribution(axes: Axes, family: str, test: Document) -> None:
    shown = test["histogram"]
    axes.stairs(shown["reference"], shown["edges"], fill=True, color=GREY, alpha=0.4, label="reference images")
    axes.stairs(shown["new"], shown["edges"], color=_color(test), linewidth=1.8, label="new images")
    name = words(test["name"]) if family == "pixels" else f"{family}: {words(test['name'])}"
    axes.set_title(textwrap.shorten(name, 30), fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.set_yticks([])
    axes.grid(visible=False)
