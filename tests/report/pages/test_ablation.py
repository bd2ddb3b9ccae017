import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from cxr_pipeline.report.pages import ablation
from cxr_pipeline.report.pages.ablation import draw_cells, render_ablation

TASK = {"name": "effusion", "title": "Pleural effusion"}
BOOTSTRAP = {"replicates": 2000, "confidence": 0.9}
MEASURED = ("accuracy", "sensitivity", "precision", "specificity", "auc", "balanced_accuracy")
HOSTILE = "<script>alert('1')</script> & $x_"


def row(name, area=0.812, *, difference=None, p_holm=None, **changed):
    measured = {"accuracy": 0.75, "sensitivity": 0.8, "precision": 0.7, "specificity": 0.6, "auc": area}
    found = {"cell": name, "is_baseline": False, "training.loss": None, "augmentation": None}
    for measure in MEASURED:
        value = measured.get(measure, 0.71)
        found |= {measure: value, f"{measure}_low": value - 0.051, f"{measure}_high": value + 0.048}
    ends = [None] * 3 if difference is None else [difference, difference - 0.02, difference + 0.03]
    found |= dict(zip(("auc_difference", "auc_difference_low", "auc_difference_high"), ends, strict=True))
    found |= {"p_value": None if p_holm is None else p_holm / 3, "p_holm": p_holm, "images_left_out": None}
    found |= {"not_compared": None, "collapsed": False, "n_images": 1300, "validation_auc": 0.8412, "kept_epoch": 7}
    return found | {"seconds": 1263.2, "peak_memory_mb": 2101.4, "error": None} | changed


def failed(name, error, **changed):
    return {**dict.fromkeys(row(name)), "cell": name, "is_baseline": False, "error": error, **changed}


def rows():
    return [
        row("baseline", is_baseline=True),
        row("plain loss", 0.7, difference=-0.112, p_holm=0.0301, **{"training.loss": "cross_entropy"}),
        row("without augmentation", 0.85, difference=0.038, p_holm=0.2, augmentation="null"),
        row(HOSTILE, 0.9, difference=0.088, p_holm=0.0001, collapsed=True),
        failed("broken", "UserError: <b>it</b>\n  diverged"),
    ]


def table_of(found):
    table = pd.DataFrame(found)
    return table.astype({"p_holm": float, "collapsed": "boolean", "n_images": "Int64", "error": "string"})


@pytest.fixture
def table():
    return table_of(rows())


@pytest.fixture
def drawing(drawn_by):
    return drawn_by(ablation)


def page(table, *, phantom=False, **bootstrap):
    return Page(render_ablation(table, task=TASK, phantom=phantom, bootstrap={**BOOTSTRAP, **bootstrap}))


class Page(HTMLParser):
    """What a browser would make of the page: its elements, its rows, and the text of each section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.rows, self.text, self._section = html, [], [], {}, ""
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._section = dict(attrs).get("id", self._section) if tag == "section" else self._section
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self._cell = tag in ("td", "th")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        plain = data.replace("\u00a0", " ")
        self.text[self._section] = self.text.get(self._section, "") + plain
        if self._cell:
            self.rows[-1][-1] += plain


def test_the_page_has_every_interval(table):
    found = page(table).rows

    assert ["cell", "AUC", "difference in AUC", "p-value", "p after Holm", "collapsed"] in found
    assert ["baseline", "0.812 (0.761 to 0.860)", "", "", "", ""] in found
    difference = "-0.112 (-0.132 to -0.082)"
    assert ["plain loss", "0.700 (0.649 to 0.748)", difference, "0.010", "0.030", ""] in found
    assert [HOSTILE, "0.900 (0.849 to 0.948)", "0.088 (0.068 to 0.118)", "below 0.001", "below 0.001", "yes"] in found
    assert ["broken", "failed", "", "", "", ""] in found
    decided = ["0.750 (0.699 to 0.798)", "0.800 (0.749 to 0.848)", "0.600 (0.549 to 0.648)", "0.700 (0.649 to 0.748)"]
    assert ["plain loss", *decided, "0.710 (0.659 to 0.758)"] in found
    assert ["cell", "accuracy", "sensitivity (recall)", "specificity", "precision", "balanced accuracy"] in found


def test_the_page_says_what_each_cell_overrides_and_took(table):
    found = page(table).rows

    assert ["cell", "training.loss", "augmentation"] in found
    assert ["plain loss", "cross_entropy", ""] in found
    assert ["without augmentation", "", "null"] in found
    assert ["plain loss", "0.841", "7", "1,263", "2,101"] in found
    assert ["broken", "", "", "", ""] in found
    assert ["broken", "UserError: <b>it</b> diverged"] in found


def test_cells_that_differ_are_named_with_size_and_sign(table):
    text = page(table).text["summary"]

    assert "5 cells were run, each once. The baseline is “baseline”. They were tested on 1,300 images." in text
    assert "Of 3 cells compared with the baseline, 2 differ from it significantly in AUC" in text
    assert "“plain loss”: lower by 0.112 (0.082 to 0.132), p = 0.030 after Holm's correction." in text
    assert f"“{HOSTILE}”: higher by 0.088 (0.068 to 0.118), p below 0.001 after Holm's correction." in text
    assert "without augmentation" not in text
    assert "does not prove that there is none" in text
    assert "90 % intervals of 2,000 bootstrap" in text


@pytest.mark.parametrize("p_holm", [0.05, 0.051, 1.0])
def test_nothing_is_significant_at_or_above_the_level(p_holm):
    found = page(table_of([row("a", is_baseline=True), row("b", difference=0.3, p_holm=p_holm)]))

    assert "significant" not in found.html
    assert "<li>“b”" not in found.html
    text = found.text["summary"]
    assert f"Of 1 cell compared with the baseline, none has an AUC that differs by more than chance in the choice of " \
        f"test images explains (smallest p-value after Holm's correction {p_holm:.3f})" in text  # fmt: skip


def test_where_all_differ_nothing_is_left_unproven():
    text = page(table_of([row("a", is_baseline=True), row("b", difference=0.3, p_holm=0.049)])).text["summary"]

    assert "Of 1 cell compared with the baseline, 1 differs from it significantly" in text
    assert "prove" not in text


def test_the_page_says_that_it_must_not_choose(table):
    text = page(table).text["warnings"]

    assert "measured on the test images: it explains, it must not choose" in text
    assert "kedro run --pipeline=effusion_tuning, which never sees the test images" in text


def test_the_page_warns_of_cells_that_collapsed_failed_or_were_not_compared(table):
    text = page(table).text["warnings"]
    assert f"“{HOSTILE}” has collapsed" in text
    assert "1 of 5 cells failed: “broken”. " in text

    others = [
        row("a", is_baseline=True, collapsed=True),
        row("b", not_compared="No images in common."),
        row("c", difference=0.1, p_holm=0.2, images_left_out=1200, collapsed=True, n_images=1100),
    ]
    found = page(table_of(others))
    text = found.text["warnings"]
    assert "“a” and “c” have collapsed" in text
    assert "“b” was not compared with the baseline. No images in common." in text
    assert "“c” and the baseline were not tested on the same images: 1,200 that only one of them has" in text
    assert "failed" not in found.html
    assert "tested on 1,100 to 1,300 images" in found.text["summary"]


def test_nothing_to_warn_of_is_not_warned_of():
    text = page(table_of([row("a", is_baseline=True), row("b", difference=0.3, p_holm=0.1, images_left_out=0)]))

    warnings = text.text["warnings"]
    assert not re.search("collapsed|failed|not compared|replicates|same images", warnings)


def test_too_few_replicates_to_show_anything_are_said():
    cells = [row("a", is_baseline=True), *(row(str(number), difference=0.3, p_holm=1.0) for number in range(11))]

    text = page(table_of(cells), replicates=200).text["warnings"]

    assert (
        "With 200 bootstrap replicates and 11 comparisons no p-value after Holm's correction can be below 0.109" in text
    )
    assert "--params effusion.evaluation.replicates=2000" in text
    assert "the trainings are taken over" in text
    assert "replicates" not in page(table_of(cells), replicates=2000).text["warnings"]


def test_without_a_baseline_the_page_says_so():
    found = page(table_of([failed("a", "died", is_baseline=True), row("b", not_compared="The baseline failed.")]))

    assert "No cell could be compared with the baseline." in found.text["summary"]
    assert "“b” was not compared with the baseline. The baseline failed." in found.text["warnings"]


def test_cells_that_all_failed_still_have_a_page_and_a_plot(drawing):
    found = page(table_of([failed("a", "died", is_baseline=True), failed("b", "died too")]))

    assert "2 of 2 cells failed" in found.text["warnings"]
    assert "tested on" not in found.text["summary"]
    assert [text.get_text() for text in drawing[0].axes[0].texts] == ["failed", "failed"]


@pytest.mark.parametrize("phantom", [True, False])
def test_phantom_images_are_labelled(table, phantom):
    html = page(table, phantom=phantom).html

    assert ("PHANTOM IMAGES: drawn by a program, says nothing about patients." in html) == phantom
    assert ("<title>PHANTOM IMAGES: Pleural effusion: ablation</title>" in html) == phantom


def test_hostile_names_are_text_and_nothing_is_loaded(table):
    wicked = table.rename(columns={"training.loss": "<img src=x>"})
    found = page(wicked)

    inside = {tag for tag, _ in found.tags[found.tags.index(("main", {})) :]}
    assert not {"script", "link", "iframe"} & inside
    assert "<b>it" not in found.html
    assert "alert(&#39;1&#39;)" in found.html
    images = [attributes["src"] for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?:|url\(|@import", found.html)


def test_a_table_from_a_csv_file_gives_the_same_page(table, tmp_path):
    table.to_csv(tmp_path / "cells.csv", index=False)
    read = pd.read_csv(tmp_path / "cells.csv", keep_default_na=False, na_values=[""])

    assert page(read).html == page(table).html


def test_truth_values_from_a_csv_file_are_written_as_they_were(table):
    found = page(table.assign(augmentation=[None, True, False, None, None]))

    assert ["plain loss", "cross_entropy", "true"] in found.rows
    assert ["without augmentation", "", "false"] in found.rows


@pytest.mark.parametrize(("read", "shown"), [(224.0, "224"), (0.001, "0.001"), (1e-5, "1e-05"), ("010", "010")])
def test_numbers_from_a_csv_file_are_written_as_they_were(table, read, shown):
    found = page(table.assign(augmentation=[None, read, None, None, None]))

    assert ["plain loss", "cross_entropy", shown] in found.rows


def test_without_overrides_there_is_no_table_of_them(table):
    found = page(table.drop(columns=["training.loss", "augmentation"]))

    assert "Nothing." in found.text["numbers"]
    assert ["cell"] not in found.rows


def marks(axes):
    """Where the points are, by the row, and whether they are hollow."""
    points = [line for line in axes.lines if line.get_marker() == "o"]
    return {int(line.get_ydata()[0]): (line.get_xdata()[0], line.get_markerfacecolor() == "white") for line in points}


def test_the_plot_has_a_row_a_cell_and_a_panel_a_measure(table, drawing):
    draw_cells(table)
    auc, *rates = drawing[0].axes

    labels = [label.get_text() for label in auc.get_yticklabels()]
    assert labels[:3] == ["baseline", "plain loss", "without augmentation"]
    assert "(collapsed)" in labels[3]
    assert labels[4] == "broken (failed)"
    assert [axes.get_title(loc="left") for axes in drawing[0].axes] == ["AUC", "accuracy", "sensitivity", "specificity"]
    assert marks(auc) == {0: (0.812, False), 1: (0.7, False), 2: (0.85, False), 3: (0.9, True)}
    assert [marks(axes)[1] for axes in rates] == [(0.75, False), (0.8, False), (0.6, False)]
    assert [text.get_text() for text in auc.texts][::4] == ["0.81 (0.76 to 0.86)", "failed"]
    assert auc.get_ylim() == (4.5, -0.5)


def test_the_plot_has_the_intervals_and_the_baseline_dashed(table, drawing):
    draw_cells(table)
    auc, *rates = drawing[0].axes

    spans = {tuple(np.round(line.get_xdata(), 3)) for line in auc.lines if len(line.get_xdata()) == 2}
    assert {(0.761, 0.86), (0.649, 0.748)} <= spans
    for axes, value in zip((auc, *rates), (0.812, 0.75, 0.8, 0.6), strict=True):
        assert [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"] == [value]


def test_a_cell_without_an_interval_or_a_value_is_drawn_as_it_is(drawing):
    bare = row("a", is_baseline=True) | {"auc_low": None, "auc_high": None}
    table = table_of([bare, row("b", collapsed=True, auc=None, auc_low=None, auc_high=None)])

    draw_cells(table)

    assert [text.get_text() for text in drawing[0].axes[0].texts] == ["0.81", "not defined"]
    assert ["b", "not defined", "", "", "", "yes"] in page(table).rows
    assert ["a (baseline)", "0.812", "", "", "", ""] in page(table).rows


def test_a_long_name_is_cut_in_the_plot_and_whole_on_the_page(drawing):
    name = "a very long name " * 12 + "\nthat ends"
    table = table_of([row(name, is_baseline=True)])

    draw_cells(table)

    label = drawing[0].axes[0].get_yticklabels()[0].get_text()
    assert label.replace("\n", " ").startswith("a very long name a very")
    assert "…" in label
    assert label.count("\n") <= 2
    assert "that ends" in page(table).rows[1][0]


def test_the_plot_is_a_png_of_the_same_bytes_each_time(table):
    assert draw_cells(table) == draw_cells(table)
    assert draw_cells(table)[:4] == b"\x89PNG"
