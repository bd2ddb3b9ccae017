"""The page of the leaderboard."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from cxr_pipeline.experiments.leaderboard import Entry, leaderboard
from cxr_pipeline.report.pages import leaderboard as page
from cxr_pipeline.report.pages.leaderboard import MOST_DRAWN, draw_group, name_the_first, render_leaderboard

HOSTILE = '<script>alert("1")</script>'


def entry(name: str = "cxr-effusion 1", auc: float = 0.875, **changed: Any) -> Entry:
    values: dict[str, Any] = {
        "kind": "version",
        "task": "effusion",
        "images": "real",
        "test_digest": "f" * 64,
        "data_digest": "abcdef012345" + "6" * 52,
        "metrics": {
            "auc": auc,
            "auc_low": auc - 0.0625,
            "auc_high": auc + 0.0625,
            "n_images": 1040,
            "accuracy": 0.71875,
            "accuracy_low": 0.6875,
            "accuracy_high": 0.84375,
        },
        "parameters": {"training.epochs": "3"},
        "date": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC),
        "experiment_id": "7",
        "run_id": "ab12" * 8,
    }
    return Entry(name=name, **values | changed)


class Reader(HTMLParser):
    """What a browser makes of a page: its tags, addresses, and the text of its headings and rows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.rows: list[list[str]] = []
        self._into: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("href", "src")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._into = self.rows[-1]
        if tag in ("h2", "p"):
            self.headings.append("")
            self._into = self.headings

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "h2", "p"):
            assert self._into is not None
            self._into[-1] = " ".join(self._into[-1].split())
            self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into[-1] += data


def read(*entries: Entry) -> Reader:
    return Reader(render_leaderboard(leaderboard(entries)))


def test_a_group_shows_its_models_with_intervals_the_best_first() -> None:
    found = read(entry("second", 0.75, kind="cell"), entry("first", aliases=("champion",)), entry("third", 0.5))
    assert "effusion: 1,040 test images" in found.headings
    assert f"3 models; digest of the test images {'f' * 64}" in found.headings
    _, first, second, third = found.rows[:4]
    assert first[:5] == ["1", "first championregistered version", "0.875 0.812 to 0.938", "", "0.719 0.688 to 0.844"]
    assert second[:4] == ["2", "second cell of an experiment", "0.750 0.688 to 0.812", "yes"]
    assert third[3] == "no"


def test_what_differs_is_shown_with_data_date_and_run() -> None:
    found = read(entry("a"), entry("b", 0.75, parameters={"training.epochs": "5", "training.seed": "2"}))
    assert found.rows[3] == ["rank", "model", "parameters that differ", "data digest", "date (UTC)", "run"]
    epochs_a, epochs_b = "training.epochs: 3training.seed: not logged", "training.epochs: 5training.seed: 2"
    run = ["abcdef012345", "2026-02-03 04:05", f"{'ab12' * 8}of experiment 7"]
    assert found.rows[4:6] == [["1", "a", epochs_a, *run], ["2", "b", epochs_b, *run]]


def test_what_differs_from_the_first_is_bold() -> None:
    parameters = [{"t.epochs": "3", "t.seed": "1"}, {"t.epochs": "5", "t.seed": "1"}, {"t.epochs": "3"}]
    entries = [entry(str(n), 0.875 - n / 16, parameters=values) for n, values in enumerate(parameters)]
    html = render_leaderboard(leaderboard(entries))
    assert re.findall("<b>(.*?)</b>", html.split("<h3>")[1]) == ["5", "not logged"]
    assert html.count("epochs: 3") == 2


def test_where_nothing_differs_no_column_says_so() -> None:
    assert read(entry("a"), entry("b")).rows[3] == ["rank", "model", "data digest", "date (UTC)", "run"]


def test_a_long_value_is_cut() -> None:
    found = read(entry("a", parameters={"x": "ab" * 100}), entry("b", parameters={"x": "1"}))
    assert found.rows[4][2] == f"x: {'ab' * 79}a…"


def test_runs_and_versions_on_a_server_are_links() -> None:
    served = entry(run_url="https://host/#/experiments/7/runs/ab", url="https://host/#/models/cxr-effusion/versions/1")
    found = read(served)
    assert {address for address in found.addresses if not address.startswith("data:")} == {served.run_url, served.url}
    assert not any("kedro mlflow ui" in text for text in found.headings)


def test_of_a_run_in_a_file_is_said_how_to_open_it() -> None:
    found = read(entry())
    assert found.addresses == []
    assert any("kedro mlflow ui" in text and "/#/experiments/EXPERIMENT/runs/RUN" in text for text in found.headings)


@pytest.mark.parametrize(
    "scheme", ["javascript:alert(1)//", "data:text/html,", "JavaScript:", " javascript:", "file:///"]
)
def test_only_an_address_of_a_server_becomes_a_link(scheme: str) -> None:
    found = read(entry(run_url=scheme, url=scheme), entry("left", images=None, run_url=scheme, url=scheme))
    assert "a" not in found.tags


def test_hostile_text_stays_text() -> None:
    hostile: dict[str, Any] = {
        "task": HOSTILE,
        "data_digest": HOSTILE,
        "parameters": {HOSTILE: HOSTILE},
        "experiment_id": HOSTILE,
        "aliases": (HOSTILE,),
        "test_digest": HOSTILE,
    }
    url = f'https://host/"onclick="{HOSTILE}'
    entries = [
        entry(HOSTILE, run_id=HOSTILE, **hostile),
        entry("b", **hostile | {"parameters": {}}, url=url, run_url=url),
        entry("c", **hostile | {"parameters": {HOSTILE: f"another {HOSTILE}"}}),
        entry(HOSTILE, unfinished=HOSTILE, images=HOSTILE, **hostile | {"task": "x"}),
    ]
    html = render_leaderboard(leaderboard(entries))
    assert "<script" not in html
    assert "script" not in Reader(html).tags
    assert html.count("&lt;script&gt;") > 10


def test_phantoms_are_labelled_and_come_after_real_images() -> None:
    found = read(
        entry("drawn", 0.9, images="phantom"), entry("real"), entry("left", images="phantom", test_digest=None)
    )
    titles = ["effusion: 1,040 test images", "effusion: 1,040 phantom test images", "Not ranked"]
    assert [text for text in found.headings if text in titles] == titles
    label = "PHANTOM IMAGES: drawn by a program, says nothing about patients."
    assert found.headings.count(label) == 1
    assert found.headings.index(titles[1]) < found.headings.index(label)
    assert found.rows[-1][0] == "left registered version on phantom images"
    html = render_leaderboard(leaderboard([entry(), entry(images="phantom")]))
    assert "<title>Leaderboard</title>" in html
    html = render_leaderboard(leaderboard([entry(images="phantom")]))
    assert "<title>PHANTOM IMAGES: Leaderboard</title>" in html


def test_what_is_not_ranked_has_its_reason() -> None:
    found = read(entry(), entry("old", test_digest=None), entry("gone", run_id=None, metrics={}))
    reasons = {row[0]: row[1:3] for row in found.rows[-2:]}
    assert reasons["gone registered version"] == ["its run in MLflow is gone", ""]
    why, auc = reasons["old registered version"]
    assert "made before that was recorded" in why
    assert auc == "0.875 0.812 to 0.938"


def test_without_models_the_page_says_what_to_type() -> None:
    found = read()
    assert any("kedro run --env demo --pipeline=effusion" in text for text in found.headings)
    assert "table" not in found.tags
    assert not any("Before you believe" in text for text in found.headings)


def test_the_page_loads_nothing() -> None:
    html = render_leaderboard(leaderboard([entry(), entry("b", 0.5)]))
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)=\"(?!data:image/png;base64,)", html)
    assert html.count("<img ") == 1


def test_one_model_alone_is_not_drawn() -> None:
    assert "img" not in read(entry()).tags


def test_each_model_is_drawn_with_its_interval_below_the_better_ones(drawn_by: Any) -> None:
    (figure,) = drawn(drawn_by, entry("cell", 0.75, kind="cell"), entry("version with $math$"))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["version with $math$", "cell"]
    lines = [(line.get_xdata(), line.get_ydata()) for line in axes.lines]
    np.testing.assert_allclose(lines[0], [[0.8125, 0.9375], [0, 0]])
    np.testing.assert_allclose(lines[1], [[0.875], [0]])
    np.testing.assert_allclose(lines[2], [[0.6875, 0.8125], [1, 1]])
    assert axes.get_ylim() == (1.5, -0.5)
    version, cell = (to_hex(axes.lines[place].get_markerfacecolor()) for place in (1, 3))
    assert cell == "#ffffff" != version
    (band,) = axes.patches
    np.testing.assert_allclose(band.get_extents().transformed(axes.transData.inverted()).intervalx, [0.8125, 0.9375])


def test_of_very_many_the_first_are_drawn(drawn_by: Any) -> None:
    entries = [entry(f"{number} {'long' * 20}", 0.9 - number / 1000) for number in range(MOST_DRAWN + 5)]
    (figure,) = drawn(drawn_by, *entries)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == MOST_DRAWN
    assert {len(label) for label in labels} == {44}
    assert f"The first {MOST_DRAWN} of {MOST_DRAWN + 5}." in render_leaderboard(leaderboard(entries))


def drawn(drawn_by: Any, *entries: Entry) -> Any:
    figures = drawn_by(page)
    draw_group(page._ranked(page._rows(leaderboard(entries)))[0])
    return figures


def test_a_line_names_the_first_of_each_group() -> None:
    entries = [entry("a"), entry("b", 0.5), entry("c", task="findings", images="phantom"), entry("d", images=None)]
    assert name_the_first(leaderboard(entries)) == [
        "effusion, 1,040 test images: a (first of 2), AUC 0.875 (0.812 to 0.938)",
        "findings, 1,040 phantom test images: c (first of 1), AUC 0.875 (0.812 to 0.938)",
        "not ranked: 1, see the page for the reasons",
    ]
    assert (
        "(one of 2 that share the first of 3)" in name_the_first(leaderboard([entry(), entry("b"), entry("c", 0.5)]))[0]
    )


def test_names_cannot_steer_the_terminal() -> None:
    (line,) = name_the_first(leaderboard([entry("\x1b[2Jevil\nname")]))
    assert "?[2Jevil?name" in line


def test_without_models_the_terminal_says_what_to_type() -> None:
    assert "kedro run --pipeline=comparison" in name_the_first(leaderboard([]))[0]
