from datetime import UTC, datetime

import pytest

from cxr_pipeline.experiments.leaderboard import Entry, leaderboard
from cxr_pipeline.report.pages.leaderboard import first_models, render_leaderboard

HOSTILE = '<script>alert("1")</script>'
RUN = "ab12" * 8


def entry(name="cxr-effusion 1", auc=0.875, **changed):
    metrics = {"auc": auc, "auc_low": auc - 0.0625, "auc_high": auc + 0.0625, "n_images": 1040}
    metrics |= {"accuracy": 0.71875, "accuracy_low": 0.6875, "accuracy_high": 0.84375}
    values = {"kind": "version", "task": "effusion", "images": "real", "test_digest": "f" * 64, "metrics": metrics}
    values |= {"data_digest": "abcdef012345" + "6" * 52, "parameters": {"training.epochs": "3"}}
    values |= {"date": datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC), "experiment_id": "7", "run_id": RUN}
    return Entry(name=name, **values | changed)


@pytest.fixture
def page(read_page, drawn):
    return lambda *entries: read_page(render_leaderboard(leaderboard(entries)))


def test_a_group_shows_its_models_with_intervals_the_best_first(page):
    found = page(entry("second", 0.75, kind="cell"), entry("first", aliases=("champion",)), entry("third", 0.5))
    assert "effusion: 1,040 test images" in found.text["group-1"]
    assert f"3 models; digest of the test images: {'f' * 64}" in found.text["group-1"]
    assert [row[:5] for row in found.rows[:2]] == [
        ["rank", "model", "AUC", "overlaps first", "accuracy"],
        ["1", "first championregistered version", "0.875 (0.812 to 0.938)", "", "0.719 (0.688 to 0.844)"],
    ]
    assert found.rows[2][:4] == ["2", "secondexperiment cell", "0.750 (0.688 to 0.812)", "yes"]
    assert found.rows[3][3] == "no"
    assert (len(found.attributes("img")), page(entry()).attributes("img")) == (1, [])


def test_parameters_that_differ_are_shown_with_data_date_and_run(page):
    found = page(entry("a"), entry("b", 0.75, parameters={"training.epochs": "5", "training.seed": "2"}))
    assert found.rows[3] == ["rank", "model", "parameters that differ", "data digest", "date (UTC)", "run"]
    epochs_a, epochs_b = "training.epochs: 3training.seed: not logged", "training.epochs: 5training.seed: 2"
    origin = ["abcdef012345", "2026-02-03 04:05", RUN]
    assert found.rows[4:6] == [["1", "a", epochs_a, *origin], ["2", "b", epochs_b, *origin]]
    assert page(entry("a"), entry("b")).rows[3] == ["rank", "model", "data digest", "date (UTC)", "run"]


def test_runs_and_versions_on_a_server_are_links(page):
    served = entry(run_url="https://host/#/experiments/7/runs/ab", url="https://host/#/models/cxr-effusion/versions/1")
    assert {link["href"] for link in page(served).attributes("a")} == {served.run_url, served.url, "#warnings"}
    local = {link["href"] for link in page(entry()).attributes("a")}
    assert local == {f"http://127.0.0.1:5000/#/experiments/7/runs/{RUN}", "#warnings"}
    assert ["kedro mlflow ui" in page(each).text[""] for each in (served, entry())] == [False, True]


def test_only_the_address_of_a_server_becomes_a_link(page):
    schemes = ("javascript:alert(1)//", "data:text/html,", "JavaScript:", " javascript:", "file:///")
    ranked = [entry(f"model {scheme}", run_url=scheme, url=scheme) for scheme in schemes]
    left = [entry(f"left {scheme}", images=None, run_url=scheme, url=scheme) for scheme in schemes]
    assert [link["href"] for link in page(*ranked, *left).attributes("a")] == ["#warnings"]


def test_hostile_text_is_escaped(page):
    hostile = dict.fromkeys(("task", "data_digest", "experiment_id", "test_digest"), HOSTILE)
    hostile |= {"parameters": {HOSTILE: HOSTILE}, "aliases": (HOSTILE,)}
    url = f'https://host/"onclick="{HOSTILE}'
    found = page(
        entry(HOSTILE, run_id=HOSTILE, **hostile),
        entry("b", **hostile | {"parameters": {}}, url=url, run_url=url),
        entry(HOSTILE, unfinished=HOSTILE, images=HOSTILE, **hostile | {"task": "x"}),
    )
    assert not found.attributes("script")
    assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
    assert found.html.count("&lt;script&gt;") > 10


def test_the_terminal_shows_the_first_of_each_group():
    entries = [entry("a"), entry("b", 0.5), entry("c", task="findings", images="phantom"), entry("d", images=None)]
    assert first_models(leaderboard(entries)) == [
        "effusion, 1,040 test images: a (first of 2), AUC 0.875 (0.812 to 0.938)",
        "findings, 1,040 phantom test images: c (first of 1), AUC 0.875 (0.812 to 0.938)",
        "not ranked: 1; the page gives the reasons",
    ]
    for phrase, *entries in (
        ("(one of 2 tied for first of 3)", entry(), entry("b"), entry("c", 0.5)),
        ("?[2Jevil?name", entry("\x1b[2Jevil\nname")),
        ("kedro run --pipeline=comparison",),
    ):
        assert phrase in first_models(leaderboard(entries))[0]
    assert "kedro run --env demo --pipeline=effusion" in render_leaderboard(leaderboard([]))


def test_the_page_is_accessible(page, check_page):
    check_page(
        page(entry("first", aliases=("champion",)), entry("second", 0.75, kind="cell"), entry("left", images=None)).html
    )
