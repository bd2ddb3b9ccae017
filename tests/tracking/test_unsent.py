import json
import os
import shutil
from pathlib import Path

import pytest

from cxr_pipeline.tracking.unsent import Unsent, in_words, left_in

ABOUT = {"run_id": "r", "name": "effusion", "server": "http://host", "version_file": None}


def tag(number: int) -> dict[str, object]:
    return {"kind": "tags", "run_id": "r", "time": number, "tags": {"n": str(number)}}


def filled(folder: Path, n: int = 3) -> Unsent:
    unsent = Unsent(folder)
    for number in range(n):
        unsent.keep(tag(number), about=ABOUT)
    return unsent


def test_what_is_kept_waits_in_order_until_it_is_acknowledged(tmp_path: Path) -> None:
    unsent = filled(tmp_path / "r")
    unsent.acknowledge()
    assert unsent.waiting() == [tag(1), tag(2)]
    assert unsent.about() == ABOUT
    unsent.release()
    later = Unsent(tmp_path / "r")
    later.keep(tag(3), about={})
    assert later.waiting() == [tag(1), tag(2), tag(3)]
    assert later.about() == ABOUT


def test_lines_can_be_read_by_people(tmp_path: Path) -> None:
    filled(tmp_path / "r")
    lines = (tmp_path / "r" / "operations.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [tag(0), tag(1), tag(2)]


@pytest.mark.parametrize("torn", [b'{"kind": "tags", "run', b"{", b'{"kind": "tags"}'])
def test_a_line_that_a_kill_has_cut_short_was_never_kept(tmp_path: Path, torn: bytes) -> None:
    unsent = filled(tmp_path / "r", 2)
    with (tmp_path / "r" / "operations.jsonl").open("ab") as lines:
        lines.write(torn)
    assert unsent.waiting() == [tag(0), tag(1)]
    unsent.keep(tag(2), about=ABOUT)
    assert unsent.waiting() == [tag(0), tag(1), tag(2)]


def test_artifacts_are_kept_as_they_were(tmp_path: Path) -> None:
    unsent = Unsent(tmp_path / "r")
    report, figures = tmp_path / "report.html", tmp_path / "figures"
    figures.mkdir()
    for text in ("first", "second"):
        report.write_text(text)
        (figures / "roc.png").write_text(text)
        unsent.keep({"kind": "artifact"}, about=ABOUT, file=report)
        unsent.keep({"kind": "artifact"}, about=ABOUT, file=figures)
    kept = [unsent.folder / str(operation["file"]) for operation in unsent.waiting()]
    assert [path.name for path in kept] == ["report.html", "figures"] * 2
    assert [path.read_text() for path in kept[::2]] == ["first", "second"]
    assert [(path / "roc.png").read_text() for path in kept[1::2]] == ["first", "second"]


def test_one_process_at_a_time_has_the_folder(tmp_path: Path) -> None:
    unsent = filled(tmp_path / "r")
    with pytest.raises(TimeoutError):
        Unsent(tmp_path / "r").take()
    unsent.release()
    other = Unsent(tmp_path / "r")
    other.take()
    other.remove()
    assert not (tmp_path / "r").exists()
    assert not unsent.is_there()


def test_a_folder_that_its_user_has_deleted_is_no_fault(tmp_path: Path) -> None:
    unsent = filled(tmp_path / "r")
    shutil.rmtree(tmp_path / "r")
    assert unsent.waiting() == []
    unsent.remove()
    unsent.keep(tag(9), about=ABOUT)
    assert unsent.waiting() == [tag(9)]


def test_a_disk_that_is_full_leaves_what_was_kept_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unsent = filled(tmp_path / "r", 2)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            unsent.keep(tag(2), about=ABOUT)
    assert unsent.waiting() == [tag(0), tag(1)]
    unsent.keep(tag(3), about=ABOUT)
    assert unsent.waiting() == [tag(0), tag(1), tag(3)]


def test_whose_folder_it_is_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path / "r", 1)
    assert left_in(tmp_path) == []
    unsent = Unsent(tmp_path / "r")
    assert not unsent.is_there()


def test_runs_are_found_in_the_order_in_which_they_began_to_wait(tmp_path: Path) -> None:
    assert left_in(tmp_path / "absent") == []
    for moment, name in enumerate("cab"):
        filled(tmp_path / name)
        os.utime(tmp_path / name / "about.json", (moment, moment))
    assert [unsent.folder.name for unsent in left_in(tmp_path)] == ["c", "a", "b"]


def test_what_waits_is_said_in_words() -> None:
    operations = [
        {"kind": "params", "params": {"a": "1"}},
        {"kind": "metrics", "metrics": {"loss": 1.0, "auc": 0.5}},
        {"kind": "metrics", "metrics": {"loss": 1.0}},
        {"kind": "artifact"},
        {"kind": "version", "name": "cxr-effusion"},
        {"kind": "end"},
    ]
    said = "1 parameter, 3 metrics, 1 artifact, a version of cxr-effusion, the end of the run"
    assert in_words(operations) == said
    assert in_words([]) == ""
