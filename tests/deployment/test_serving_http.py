"""``mlflow models serve``, with clients that use only HTTP."""

import base64
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
from stub_models import fixed_rule, grey_network, mlflow_file, register

from cxr_pipeline import tracking
from cxr_pipeline.data.image_folder import find_images
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.deployment.scoring import score_folder

SIZE = 32
MODEL = "models:/cxr-effusion@champion"
# Duration of the test of parallel clients; can be increased, for example CXR_CLIENT_SECONDS=30.
SECONDS = float(os.environ.get("CXR_CLIENT_SECONDS", "5"))
N_CLIENTS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Two versions, of which the first is the champion."""
    rule = fixed_rule(calibration="platt")
    recipe = Recipe(size=SIZE, mode="fit", max_megapixels=1.0, steps=({"operation": "denoise", "size": 3},))
    with mlflow_file(tmp_path_factory.mktemp("store")) as uri:
        register(grey_network(SIZE), rule, recipe)
        register(grey_network(SIZE, 0.5), rule, recipe)
        mlflow.MlflowClient().set_registered_model_alias("cxr-effusion", "champion", "1")
        yield uri


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of sixty images with different mean greys."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 20, (40 + number, 90 - number), np.uint8)
        suffix = (".png", ".bmp", ".tif")[number % 3]
        cv2.imwrite(str(folder / f"{number:02}{suffix}"), noise + np.uint8(3 * number + 10))
    return folder


@pytest.fixture(scope="module")
def expected(store: str, images: Path) -> dict[str, float]:
    """The probability of each image from scoring the folder; all are different."""
    found = find_images(str(images), key="folder")
    parts = images.parent / "predictions.parts"
    table = pd.concat(score_folder(tracking.load_classifier(MODEL), found, scored_by=MODEL, parts=parts, batch_size=7))
    assert (table.status == "scored").all()
    assert np.diff(np.sort(table.probability)).min() > 1e-4
    return dict(zip(table.image, table.probability, strict=True))


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``mlflow models serve`` in another process and folder, without the project."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_PYFUNC_INFERENCE_CONFIG": '{"max_images": 10, "max_image_mib": 0.5}',
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    command = ["models", "serve", "--model-uri", MODEL, "--env-manager", "local", "--port", str(port)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            cwd=log.parent,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{url}/ping", process, log)
        yield url
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            assert urllib.request.urlopen(url, timeout=5).status == 200
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(log.read_text())


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def ask(server: str, records: list[Any], **params: Any) -> list[dict[str, Any]]:
    body = {"dataframe_records": records, **({"params": params} if params else {})}
    request = urllib.request.Request(
        f"{server}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    answer = json.loads(urllib.request.urlopen(request, timeout=120).read(), parse_constant=pytest.fail)
    return list(answer["predictions"])


def test_serving_and_scoring_give_the_same_probabilities(server: str, images: Path, expected: dict[str, float]) -> None:
    names = sorted(expected)
    for start in range(0, len(names), 10):
        batch = names[start : start + 10]
        answers = ask(server, [{"image": as_text((images / name).read_bytes())} for name in batch])
        probabilities = [expected[name] for name in batch]
        np.testing.assert_allclose([answer["probability"] for answer in answers], probabilities, atol=1e-6, rtol=0)
        decisions = ["effusion" if probability >= 0.5 else "nofinding" for probability in probabilities]
        assert [answer["decision"] for answer in answers] == decisions


def test_one_bad_image_does_not_fail_the_others(server: str, images: Path, expected: dict[str, float]) -> None:
    good = {"image": as_text((images / "07.bmp").read_bytes())}
    bad = [{"image": None}, {"image": 5}, {}, {"image": ["a"]}, {"image": "/etc/passwd"}, {"image": "AAAA" * 200_000}]
    answers = ask(server, [good, *bad, good])
    assert [answer["reason"] for answer in answers] == [None, *["unreadable"] * 5, "too_large", None]
    assert [answer["probability"] for answer in answers[1:-1]] == [None] * 6
    assert answers[0] == answers[-1]
    assert answers[0]["probability"] == pytest.approx(expected["07.bmp"], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_records": [{"image": ""}] * 11}, "11 images in one call; this server scores at most 10"),
        ({"dataframe_records": [{"picture": ""}]}, "image"),
        ({"dataframe_records": [{"image": ""}], "params": {"heatmap": "perhaps"}}, "heatmap"),
        ({"images": []}, "dataframe_records"),
        ("no JSON", "JSON"),
    ],
)
def test_an_invalid_request_is_answered_with_the_reason(server: str, body: Any, message: str) -> None:
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = urllib.request.Request(f"{server}/invocations", content, {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=60)
    assert raised.value.code == 400
    assert message in raised.value.read().decode()
    assert urllib.request.urlopen(f"{server}/ping", timeout=10).status == 200


def test_parallel_clients_get_their_own_answers(server: str, images: Path, expected: dict[str, float]) -> None:
    contents = {name: as_text((images / name).read_bytes()) for name in expected}
    end = time.monotonic() + SECONDS

    def client(number: int) -> int:
        rng, n_calls = random.Random(number), 0
        while time.monotonic() < end:
            names = rng.choices([*contents, "broken"], k=rng.randint(1, 6))
            params = {"heatmap": True} if rng.random() < 0.2 else {}
            answers = ask(server, [{"image": contents.get(name, "AAAA")} for name in names], **params)
            assert len(answers) == len(names)
            for name, answer in zip(names, answers, strict=True):
                assert answer["status"] == ("scored" if name in contents else "refused")
                assert answer["probability"] == pytest.approx(expected.get(name), abs=1e-6)
                assert bool(answer.get("heatmap")) == (bool(params) and name in contents)
            n_calls += 1
        return n_calls

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        n_calls = list(pool.map(client, range(N_CLIENTS)))
    assert min(n_calls) >= 3
