"""How an ablation ends; whole ablations run in tests/integration."""

from typing import Any

import pytest

from cxr_pipeline.config import Task
from cxr_pipeline.errors import Unavailable, UserError
from cxr_pipeline.pipelines.ablation.nodes import judge_cells

TASK = Task(name="chest", title="Chest", kind="binary", classes={"no": ("no",), "yes": ("yes",)})


def cell(name: str, error: str | None = None, *, may_pass: bool = False) -> dict[str, Any]:
    return {"name": name, "error": error, "may_pass": may_pass}


def test_a_cell_that_fails_does_not_fail_the_others() -> None:
    judge_cells([cell("baseline"), cell("too fast", "it diverged"), cell("flat")], "<html>", TASK)


def test_without_the_baseline_the_run_fails() -> None:
    said = r"1 of 2 cells of chest failed.*first: it diverged.*'first'.*chest\.ablation\.baseline"
    with pytest.raises(UserError, match=said) as no:
        judge_cells([cell("first", "it diverged"), cell("second")], "<html>", TASK)
    assert not isinstance(no.value, Unavailable)


@pytest.mark.parametrize("baseline", [None, "it diverged"])
def test_what_was_killed_can_be_run_again(baseline: str | None) -> None:
    found = [cell("first", baseline), cell("second", "it was killed by signal 9", may_pass=True), cell("third")]
    with pytest.raises(Unavailable, match=r"second: it was killed by signal 9\. The same command"):
        judge_cells(found, "<html>", TASK)
