import os

import numpy as np
import pytest

from cxr_pipeline.training.checkpoints import PhaseState, prune

ROWS = [{"phase": "frozen", "epoch": 1, "loss": 0.1 + 0.2}, {"phase": "frozen", "epoch": 2, "loss": float("nan")}]


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return PhaseState(
        history=list(ROWS),
        selected={epoch: [rng.normal(size=5).astype(np.float32), rng.normal(size=(2, 2))] for epoch in (0, 11)},
        random={0: [np.array([1, 2], np.uint32)], 1: [np.array([1, 3], np.uint32)]},
        variables=[rng.normal(size=(3, 2)).astype(np.float32), *(np.array(n, np.int64) for n in range(12))],
        optimizer=[np.array(7, np.int64)],
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "state.npz"


def test_a_state_is_restored_exactly_and_replaces_the_earlier_one(path, state):
    assert PhaseState.load(path) == PhaseState()
    PhaseState(history=ROWS[:1]).save(path)
    state.save(path)
    assert [file.name for file in path.parent.iterdir()] == ["state.npz"]
    restored, again = PhaseState.load(path), path.with_name("again.npz")
    restored.save(again)
    assert again.read_bytes() == path.read_bytes()
    assert (str(restored.history), list(restored.selected), list(restored.random)) == (str(ROWS), [0, 11], [0, 1])
    np.testing.assert_array_equal(restored.variables[0], state.variables[0])


def test_a_truncated_or_changed_file_is_ignored(path, state, caplog):
    state.save(path)
    content = path.read_bytes()
    truncated = [content[: int(fraction * len(content))] for fraction in (0.0, 0.3, 0.999)]
    values, entry = state.selected[11][0].tobytes(), content.rindex(b"PK\x01\x02")
    method = bytearray(content)
    method[entry + 10] ^= 1  # of compression
    changed = [content.replace(values[:4], b"\0" * 4, 1), content.replace(b"selected/11", b"selected/1x"), method]
    for damaged in (*truncated, *changed):
        path.write_bytes(damaged)
        assert PhaseState.load(path) == PhaseState()
    assert caplog.text.count("is damaged") == 6


def test_the_least_recently_used_files_are_pruned(tmp_path, state):
    files = [tmp_path / f"{name}.npz" for name in "abcd"]
    for seconds, file in enumerate(files):
        state.save(file)
        os.utime(file, (seconds, seconds))
    size = files[0].stat().st_size
    PhaseState.load(files[1])
    prune(tmp_path, max_bytes=4 * size)
    assert sorted(tmp_path.iterdir()) == files
    prune(tmp_path, max_bytes=2 * size)
    assert sorted(tmp_path.iterdir()) == [files[1], files[3]]
    prune(tmp_path / "missing")
