import os
import subprocess
import sys
from functools import partial

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.images.parallel import Task, divided, n_cores, run_tasks, sum_exceeds


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_tasks(workers: int, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [Task(partial(pow, 2, exponent), n_images=1) for exponent in range(5)]
    assert run_tasks(tasks, workers=workers, title="Counting images") == [1, 2, 4, 8, 16]
    printed = capsys.readouterr()
    assert "Counting images" in printed.err
    assert not printed.out


def test_more_workers_are_other_processes() -> None:
    tasks = [Task(os.getpid, n_images=1)]
    assert run_tasks(tasks, workers=1, title="") == [os.getpid()]
    assert run_tasks(tasks, workers=2, title="") != [os.getpid()]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_users_mistake_arrives_without_a_traceback_in_its_text(workers: int) -> None:
    fail = partial(exec, "from cxr_pipeline.common.errors import UserError; raise UserError('The disk is full.')")
    with pytest.raises(UserError) as raised:
        run_tasks([Task(fail, n_images=1)], workers=workers, title="")
    assert str(raised.value) == "The disk is full."


def test_what_a_worker_imports_is_light() -> None:
    code = (
        "import sys; import numpy as np, cv2, cxr_pipeline.data.images.shards, cxr_pipeline.data.images.store;"
        "from cxr_pipeline.data.images.recipe import Recipe;"
        "image = cv2.imencode('.png', np.eye(32, dtype='uint8'))[1].tobytes();"
        "Recipe(16, 'fit', 1).prepare(image);"
        "heavy = {'tensorflow', 'keras', 'pandas', 'kedro', 'mlflow', 'sklearn'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


@pytest.mark.parametrize(
    ("largest", "parts", "n_blocks"), [(512, 2, 2), (512, 1, 2), (100, 4, 8), (1, 3, 791), (512, 1000, 791)]
)
def test_blocks_are_equal_and_as_many_for_each_part(largest: int, parts: int, n_blocks: int) -> None:
    items = list(range(791))
    blocks = divided(items, largest=largest, parts=parts)
    lengths = [len(block) for block in blocks]
    assert len(blocks) == n_blocks
    assert max(lengths) <= largest
    assert max(lengths) - min(lengths) <= 1
    assert [item for block in blocks for item in block] == items


def test_nothing_is_divided_into_nothing() -> None:
    assert divided([], largest=512, parts=2) == []


def test_values_are_summed_until_there_is_enough() -> None:
    assert not sum_exceeds([0, 5, 5], 10)
    assert sum_exceeds([0, 5, 5], 9)
    remaining = iter([0, 5, 7])
    assert sum_exceeds(remaining, 4)
    assert next(remaining) == 7


def test_there_is_a_core() -> None:
    assert 1 <= n_cores() <= (os.cpu_count() or 1)
