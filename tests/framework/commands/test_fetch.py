import io
import random
import shutil
import time
import zipfile
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from file_server import serve
from kedro.framework.session import KedroSession

from cxr_pipeline.cli import cli


@pytest.mark.skipif(shutil.disk_usage(".").free < 3e9, reason="the collection needs 2.5 GB of free disk space")
def test_a_killed_download_is_resumed_and_the_next_command_is_printed(project, start_kedro, kedro):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("NORMAL/IM-0001-0001.jpeg", "PNEUMONIA/person1_virus_6.jpeg"):
            opened.writestr(f"chest_xray/train/{name}", random.Random(0).randbytes(2**20))
    folder = project / "data" / "01_raw" / "kermany"
    part = folder / ".fetched" / "ChestXRay2017.zip.part"
    with serve({"/kermany/ChestXRay2017.zip": archive.getvalue()}) as server:
        server.pause = 0.5
        command = (project, "fetch", "kermany")
        killed = start_kedro(*command, CXR_FETCH_MIRROR=server.url)
        deadline = time.monotonic() + 120
        while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        killed.kill()
        kept, server.pause = part.stat().st_size, 0
        time.sleep(0.5)  # the server may send more to the killed process
        server.n_sent = 0
        assert 0 < kept < len(archive.getvalue())
        ended = kedro(*command, CXR_FETCH_MIRROR=server.url)
        assert ended.returncode == 0, ended.stdout
        assert server.n_sent == len(archive.getvalue()) - kept
    assert "Licence: CC BY 4.0" in ended.stdout
    assert ended.stdout.splitlines()[-2:] == [
        "To train a model: kedro run --pipeline=pneumonia",
        f"The task ailments also needs nih in {folder.parent}.",
    ]
    assert len(list(folder.glob("train/*/*.jpeg"))) == 2


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ([], 0, "kermany             1.2 GB        5,856 images    Chest X-rays of children with and"),
        (["kermani"], 1, "Did you mean kermany?"),
        (["chexpert"], 1, "it needs an account at Stanford AIMI and its research use agreement. Get it at https://"),
        (
            ["kermany", "--mirror", "localhost"],
            1,
            "--mirror: expected an address such as http://mirror.example.org/cxr;",
        ),
        (
            ["pneumoniamnist"],
            69,
            "the server does not answer (Connection refused). Run the same command again: it resumes.",
        ),
    ],
)
def test_the_list_and_what_cannot_be_fetched(arguments, status, line, tmp_path, monkeypatch):
    loader = {"parameters": {"raw": str(tmp_path)}}
    context = SimpleNamespace(load_context=lambda: SimpleNamespace(config_loader=loader))
    monkeypatch.setattr(KedroSession, "create", lambda env: context)
    ended = CliRunner().invoke(cli, ["fetch", "--mirror", "http://127.0.0.1:1", *arguments])
    assert (ended.exit_code, line in ended.output) == (status, True), ended.output
