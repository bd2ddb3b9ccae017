from pathlib import Path

import numpy as np
import pytest

from cxr_pipeline.training.checkpoints import Checkpoint, State

ROWS = [{"phase": "frozen", "epoch": 1, "loss": 0.1 + 0.2}, {"phase": "frozen", "epoch": 2, "loss": float("nan")}]


@pytest.fixture
def state() -> State:
    rng = np.random.default_rng(0)
    return State(
        history=list(ROWS),
        variables=[rng.normal(size=(3, 2)).astype(np.float32), np.array([1, 2], np.int64)],
        optimizer=[np.array(7, np.int64)],
        kept=[rng.normal(size=5).astype(np.float32)],
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "folder" / "state.npz")


def test_a_state_comes_back_to_the_bit(checkpoint: Checkpoint, state: State) -> None:
    checkpoint.save(state)
    loaded = checkpoint.load()
    assert str(loaded.history) == str(ROWS)
    for group in ("variables", "optimizer", "kept"):
        for saved, found in zip(getattr(state, group), getattr(loaded, group), strict=True):
            assert saved.dtype == found.dtype
            assert saved.tobytes() == found.tobytes()


def test_a_later_state_replaces_the_earlier_one(checkpoint: Checkpoint, state: State) -> None:
    checkpoint.save(state)
    checkpoint.save(State(history=[*ROWS, {"phase": "frozen", "epoch": 3}]))
    assert len(checkpoint.load().history) == 3
    assert checkpoint.load().variables == []
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["state.npz"]


def test_without_a_file_the_state_is_fresh(checkpoint: Checkpoint) -> None:
    assert checkpoint.load() == State()


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_half_a_file_is_ignored(
    checkpoint: Checkpoint, state: State, fraction: float, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(state)
    content = checkpoint.path.read_bytes()
    checkpoint.path.write_bytes(content[: int(fraction * len(content))])
    assert checkpoint.load() == State()
    assert "is damaged" in caplog.text


def test_a_changed_byte_is_noticed(checkpoint: Checkpoint, state: State) -> None:
    checkpoint.save(state)
    content = bytearray(checkpoint.path.read_bytes())
    place = bytes(content).index(state.kept[0].tobytes())
    content[place] ^= 1
    checkpoint.path.write_bytes(bytes(content))
    assert checkpoint.load() == State()


def test_removing_twice_does_no_harm(checkpoint: Checkpoint, state: State) -> None:
    checkpoint.save(state)
    checkpoint.remove()
    checkpoint.remove()
    assert not checkpoint.path.exists()
