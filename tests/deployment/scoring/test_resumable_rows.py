from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.scoring import resumable_rows as module
from cxr_pipeline.deployment.scoring.resumable_rows import KEY, Parts

COLUMNS = ["image", "probability", "decision"]


def key(number: int) -> str:
    return f"{number:032x}"


def rows(numbers: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            KEY: pd.Series([key(number) for number in numbers], dtype="str"),
            "image": pd.Series([f"{number}.png" for number in numbers], dtype="str"),
            "probability": [number / 100 for number in numbers],
            "decision": pd.Series(["effusion" if number % 2 else None for number in numbers], dtype="str"),
            "threshold": 0.5,
        }
    )


def open_parts(folder: Path, *, n_images: int = 4) -> Parts:
    folder.mkdir(exist_ok=True)
    return Parts(folder, COLUMNS, n_images=n_images)


def filled(folder: Path, n: int, *, n_images: int = 4) -> Parts:
    parts = open_parts(folder, n_images=n_images)
    for number in range(n):
        parts.add(rows([number]))
    parts.flush()
    return parts


def test_rows_come_back_in_the_order_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STRETCH", 5)
    parts = filled(tmp_path, 11)
    wanted = np.array([7, 0, 10, 3, 3, 8, 1, 2])
    tables = list(parts.tables(wanted, COLUMNS))
    assert [len(table) for table in tables] == [5, 3]
    pd.testing.assert_frame_equal(pd.concat(tables, ignore_index=True), rows(wanted.tolist())[COLUMNS])


@given(st.lists(st.integers(1, 7), max_size=8), st.integers(1, 9))
def test_what_was_written_is_found_again(tmp_path_factory: pytest.TempPathFactory, sizes: list[int], n: int) -> None:
    folder = tmp_path_factory.mktemp("parts")
    first, number = open_parts(folder, n_images=n), 0
    for size in sizes:
        first.add(rows(list(range(number, number + size))))
        number += size
        assert len(first) == number
    first.flush()
    again = open_parts(folder, n_images=n)
    assert len(again) == number
    assert [again.find(key(wanted)) for wanted in range(number)] == list(range(number))
    assert again.find(key(number)) is None
    assert again.find("") is None


def test_rows_without_a_key_are_not_found_again(tmp_path: Path) -> None:
    parts = open_parts(tmp_path)
    parts.add(rows([1, 2, 3]).assign(key=[key(1), "", key(3)]))
    parts.flush()
    again = open_parts(tmp_path)
    assert len(again) == 3
    assert [again.find(key(number)) for number in (1, 2, 3)] == [0, None, 2]
    assert again.find("") is None


def test_new_rows_stand_behind_those_of_before(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    again = open_parts(tmp_path)
    again.add(rows([10, 11]))
    again.flush()
    table = pd.concat(again.tables(np.array([3, 0, 4]), ["image"]))
    assert table.image.tolist() == ["10.png", "0.png", "11.png"]


def test_a_part_is_written_when_it_is_full_or_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    parts = Parts(tmp_path, COLUMNS, n_images=4, seconds=30)
    parts.add(rows([0, 1, 2]))
    assert not list(tmp_path.iterdir())
    parts.add(rows([3, 4]))
    assert [path.name for path in tmp_path.iterdir()] == ["00000000.parquet"]
    parts.add(rows([5]))
    now[0] = 31
    parts.add(rows([6]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000000.parquet", "00000001.parquet"]
    assert pd.read_parquet(tmp_path / "00000001.parquet").image.tolist() == ["5.png", "6.png"]


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_part_is_forgotten(tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, 8)
    file = tmp_path / "00000000.parquet"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] if damage is None else damage)
    again = open_parts(tmp_path)
    assert [again.find(key(number)) for number in (0, 3, 4, 7)] == [None, None, 0, 3]
    assert "00000000.parquet cannot be read" in caplog.text
    again.add(rows([0]))
    again.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001.parquet", "00000002.parquet"]


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    (tmp_path / ".00000001-abc.parquet").write_bytes(b"PAR1")
    (tmp_path / "note.parquet").write_text("no part")
    open_parts(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000000.parquet", "note.parquet"]


def test_parts_of_other_columns_are_forgotten(tmp_path: Path) -> None:
    filled(tmp_path, 3)
    assert len(Parts(tmp_path, ["image", "probability_Mass"])) == 0


def test_unused_parts_are_removed(tmp_path: Path) -> None:
    parts = filled(tmp_path, 12)
    parts.remove_unused(np.array([1, 9]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000000.parquet", "00000002.parquet"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("a file")
    parts = Parts(tmp_path / "parts", COLUMNS)
    parts.add(rows([1]))
    with pytest.raises(UserError, match="parts/00000000"):
        parts.flush()
