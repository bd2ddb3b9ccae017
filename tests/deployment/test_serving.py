import base64
import io
import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import packages_distributions
from importlib.metadata import version as distribution_version
from pathlib import Path
from types import SimpleNamespace

import cv2
import mlflow
import numpy as np
import pandas as pd
import pydicom
import pytest
from mlflow.exceptions import MlflowException
from mlflow_servers import MlflowProcess, answers
from PIL import Image
from pydicom.data import get_testdata_file
from stub_models import fixed_rule, grey_network, mlflow_file, prepare, register, score

from cxr_pipeline import tracking
from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources.folders import find_images
from cxr_pipeline.deployment import serving
from cxr_pipeline.deployment.classifier import ImageClassifier
from cxr_pipeline.deployment.heatmaps import HeatMaps
from cxr_pipeline.deployment.scoring import score_folder
from cxr_pipeline.tracking import versions
from cxr_pipeline.training.networks.build import build_model
from cxr_pipeline.training.networks.ensemble import combine
from cxr_pipeline.training.networks.views import with_views

MODEL = "models:/cxr-effusion@champion"
# Duration of the test of parallel clients; can be increased, for example CXR_CLIENT_SECONDS=30.
SECONDS = float(os.environ.get("CXR_CLIENT_SECONDS", "3"))
N_CLIENTS = 8
CHANGES = ("rotation", "translation", "zoom", "brightness", "contrast")

# Run in another process, which has only the code stored with the model.
SERVE = """
import ast, json, sys
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.DataFrame({"image": json.loads(sys.stdin.read())}), {"heatmap": True})

ours = {name: module.__file__ for name, module in sys.modules.items() if name.startswith("cxr_pipeline")}
imported = set()
for file in ours.values():
    for statement in ast.walk(ast.parse(open(file).read())):
        if isinstance(statement, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            imported.add(statement.module.split(".")[0])
imported.add("gdcm")  # pydicom imports it for compressed images.
imported = sorted(imported & set(sys.modules))
json.dump({"status": answer["status"].tolist(), "ours": ours, "imported": imported}, sys.stdout)
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """The champion, which is not the newest version."""
    recipe = Recipe(size=32, mode="fit", max_megapixels=1.0, steps=({"operation": "denoise", "size": 3},))
    with mlflow_file(tmp_path_factory.mktemp("store")):
        champion, _ = (register(grey_network(32, w), fixed_rule(calibration="platt"), recipe) for w in (1.0, 0.5))
        mlflow.MlflowClient().set_registered_model_alias("cxr-effusion", "champion", "1")
        yield champion


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(3)
    pixels = [np.sort(rng.integers(0, 256, (60, 45), np.uint8), axis=axis) for axis in (0, 1)]
    return [cv2.imencode(suffix, image)[1].tobytes() for image, suffix in zip(pixels, (".png", ".jpg"), strict=True)]


def elsewhere(**variables):
    """Return the environment of a process that cannot import the project."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**inherited, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(), **variables}


def as_text(content):
    return base64.b64encode(content).decode()


def test_a_model_runs_the_code_stored_with_it_and_installs_everything_that_it_imports(
    registered, classifier, images, tmp_path
):
    compressed = io.BytesIO()
    radiograph = pydicom.dcmread(get_testdata_file("MR_small_jp2klossless.dcm", download=False))
    radiograph.Modality = "DX"
    radiograph.save_as(compressed)
    called = subprocess.run(
        [sys.executable, "-c", SERVE, registered["uri"]],
        input=json.dumps([as_text(images[0]), as_text(compressed.getvalue())]),
        cwd=tmp_path,
        env=elsewhere(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert called.returncode == 0, called.stderr
    served = json.loads(called.stdout.splitlines()[-1])
    assert served["status"] == ["scored", "scored"]
    package = Path(served["ours"]["cxr_pipeline"]).parent
    assert package.parent.name == "code"
    assert package != Path(tracking.__file__).parent
    assert all(Path(file).is_relative_to(package) for file in served["ours"].values())
    assert not [name for name in served["ours"] if name.startswith("cxr_pipeline.pipelines")]
    distributions = packages_distributions()
    listed = {requirement.partition("==")[0] for requirement in serving.requirements(classifier)}
    third_party = [name for name in served["imported"] if name in distributions and name != "cxr_pipeline"]
    assert {"keras", "pydicom", "gdcm", "matplotlib"} <= set(third_party)
    for name in third_party:
        assert listed & {distribution.lower().replace("_", "-") for distribution in distributions[name]}, name


def test_a_transformer_needs_kerashub_in_the_server():
    network = with_views(build_model(name="dinov2_vitb14", size=28), 2, dict.fromkeys(CHANGES, 0.1), seed=1)
    recipe = Recipe(size=28, mode="fit", max_megapixels=1.0)
    needed = serving.requirements(ImageClassifier(network, recipe, fixed_rule(), {}))
    assert f"keras-hub=={distribution_version('keras-hub')}" in needed
    single = serving.requirements(ImageClassifier(grey_network(28), recipe, fixed_rule(), {}))
    assert not [name for name in single if "keras-hub" in name]


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_a_model_of_several_classes_answers_with_a_column_for_each(kind, images, tmp_path):
    names = ["No Finding", "Mass", "Pleural_Thickening"]
    network = build_model(
        name="small_cnn", weights_file=None, size=32, n_outputs=3, exclusive=kind == "multiclass", head_units=0,
        dropout=0, seed=1,
    )  # fmt: skip
    rule = fixed_rule(names, kind, threshold=0.25)
    classifier = ImageClassifier(network, Recipe(size=32, mode="fit", max_megapixels=1.0), rule, {"task": kind})
    answer = limited(classifier, tmp_path / "c").predict(pd.DataFrame({"image": [*map(as_text, images), "no image"]}))
    probabilities, thresholds = [f"probability_{name}" for name in names], [f"threshold_{name}" for name in names]
    assert answer.columns.tolist() == [*probabilities, "decision", *thresholds, "status", "reason"]
    signature = serving.signature(rule.outputs)
    assert signature.outputs.input_names() == [*answer.columns, "heatmap"]
    assert signature.outputs.optional_input_names() == [*probabilities, "decision", "reason", "heatmap"]
    expected = score(classifier, images)
    np.testing.assert_allclose(answer[probabilities].iloc[:2].astype(float), expected[probabilities], atol=1e-6)
    assert answer.decision.tolist() == [*expected.decision, None]
    assert answer.iloc[2].tolist() == [None, None, None, None, 0.25, 0.25, 0.25, "refused", "unreadable"]
    json.dumps(answer.to_dict("records"), allow_nan=False)


def test_an_ensemble_with_views_is_served_as_it_scores(images, tmp_path):
    options = {"name": "small_cnn", "size": 32}
    members = [build_model(**options, seed=seed) for seed in (1, 2, 3)]
    network = with_views(combine(members, "image"), 3, dict.fromkeys(CHANGES, 0.1), seed=4)
    recipe = Recipe(size=32, mode="fit", max_megapixels=1.0)
    classifier = ImageClassifier(network, recipe, fixed_rule(), {})
    expected = score(classifier, images)
    answer = limited(classifier, tmp_path / "c").predict(pd.DataFrame({"image": list(map(as_text, images))}))
    np.testing.assert_allclose(answer["probability"].astype(float), expected["probability"], rtol=0, atol=1e-6)
    single = score(ImageClassifier(members[0], recipe, fixed_rule(), {}), images)
    assert not np.allclose(expected["probability"], single["probability"], rtol=0, atol=1e-4)


def test_base64_up_to_the_limit_is_decoded():
    for text in ("AAEC/w==", "AAEC\n/w==\n", " AAEC/w=="):
        assert serving.decode_base64(text, max_mib=1) == b"\x00\x01\x02\xff"
    assert len(serving.decode_base64(as_text(bytes(3 * 2**18)), max_mib=0.75)) == 3 * 2**18
    with pytest.raises(ImageRefused, match="too_large"):
        serving.decode_base64("not base64 at all" * 200, max_mib=1.5 / 1024)
    for other in ("AAE", "AAEC_w==", "AA.EC", "data:image/png;base64,AAEC", "/data/image.png", "é", None, 3.5):
        with pytest.raises(ImageRefused, match="unreadable"):
            serving.decode_base64(other, max_mib=1)


def limited(classifier, folder, **limits):
    if not folder.exists():
        classifier.save(folder)
    served = serving.ServedClassifier()
    config = serving.limits_of(classifier.recipe) | limits
    served.load_context(SimpleNamespace(artifacts={"classifier": str(folder)}, model_config=config))
    return served


@pytest.fixture(scope="module")
def classifier(registered):
    return versions.load_classifier(registered["uri"])


def test_a_server_can_lower_the_limits_but_not_raise_that_of_megapixels(classifier, registered, images, tmp_path):
    info = mlflow.models.get_model_info(registered["uri"])
    expected = {"max_images": 256, "max_image_mib": 192, "max_megapixels": 1.0}
    assert info.flavors["python_function"]["config"] == expected == serving.limits_of(classifier.recipe)
    request = pd.DataFrame({"image": [as_text(content) for content in images]})
    pixels = limited(classifier, tmp_path / "c", max_megapixels=60 * 45 / 1e6 - 1e-6).predict(request)
    assert pixels.reason.tolist() == ["too_large", "too_large"]
    largest = max(map(len, images))
    content = limited(classifier, tmp_path / "c", max_image_mib=(largest - 4) / 2**20).predict(request)
    assert sorted(content.status) == ["refused", "scored"]
    with pytest.raises(MlflowException, match="2 images in one call; this server scores at most 1"):
        limited(classifier, tmp_path / "c", max_images=1).predict(request)
    large = cv2.imencode(".png", np.tile(np.arange(250, dtype=np.uint8), (4100, 1)))[1].tobytes()
    answer = limited(classifier, tmp_path / "c", max_megapixels=100).predict(pd.DataFrame({"image": [as_text(large)]}))
    assert answer.reason.tolist() == ["too_large"]


def test_several_batches_answer_in_order_with_heat_maps_on_request(classifier, images, tmp_path):
    request = pd.DataFrame({"image": [as_text(images[0]), "", as_text(images[1])] * 30})
    served = limited(classifier, tmp_path / "c")
    plain = served.predict(request, {"heatmap": False})
    assert "heatmap" not in plain
    assert plain.status.tolist() == ["scored", "refused", "scored"] * 30
    prepared = prepare(classifier, images)
    expected = classifier.score_batch(prepared)
    for place in (0, 1):
        probability = plain.probability[2 * place :: 3].astype(float)
        np.testing.assert_allclose(probability, expected.probability[place], atol=1e-6)
    answer = served.predict(request, {"heatmap": True})
    pd.testing.assert_frame_equal(answer.drop(columns="heatmap"), plain)
    assert answer.columns[-1] == "heatmap"
    assert answer.heatmap[1] is None
    for text, picture in zip(answer.heatmap[[87, 89]], HeatMaps(classifier).draw(prepared, expected), strict=True):
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            np.testing.assert_array_equal(np.asarray(image), picture)
    nothing = served.predict(pd.DataFrame({"image": ["", None]}), {"heatmap": True})
    assert nothing.heatmap.tolist() == [None, None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of sixty images with different mean greys."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 20, (40 + number, 90 - number), np.uint8)
        suffix = (".png", ".bmp", ".tif")[number % 3]
        cv2.imwrite(str(folder / f"{number:02}{suffix}"), noise + np.uint8(3 * number + 10))
    return folder


@pytest.fixture(scope="module")
def expected(registered, folder):
    """The probability of each image from scoring the folder; all are different."""
    found = find_images(str(folder), key="folder")
    parts = folder.parent / "predictions.parts"
    table = pd.concat(score_folder(versions.load_classifier(MODEL), found, scored_by=MODEL, parts=parts, batch_size=7))
    assert (table.status == "scored").all()
    assert np.diff(np.sort(table.probability)).min() > 1e-4
    return dict(zip(table.image, table.probability, strict=True))


@pytest.fixture(scope="module")
def server(registered, tmp_path_factory):
    """``mlflow models serve`` in another process and folder, without the project."""
    environment = elsewhere(
        MLFLOW_PYFUNC_INFERENCE_CONFIG='{"max_images": 10, "max_image_mib": 0.5}',
        PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    )
    command = ("models", "serve", "--model-uri", MODEL, "--env-manager", "local")
    served = MlflowProcess(tmp_path_factory.mktemp("server"), command, "ping", environment)
    try:
        served.start()
        yield served.uri
    finally:
        served.kill()


def post(server, body):
    request = urllib.request.Request(f"{server}/invocations", body, {"Content-Type": "application/json"})
    return str(urllib.request.urlopen(request, timeout=120).read().decode())


def ask(server, records, **params):
    body = {"dataframe_records": records, **({"params": params} if params else {})}
    return list(json.loads(post(server, json.dumps(body).encode()), parse_constant=pytest.fail)["predictions"])


def test_one_bad_image_does_not_fail_the_others(server, folder, expected):
    good = {"image": as_text((folder / "07.bmp").read_bytes())}
    bad = [{"image": None}, {"image": 5}, {}, {"image": ["a"]}, {"image": "/etc/passwd"}, {"image": "AAAA" * 200_000}]
    first, *refused, last = ask(server, [good, *bad, good])
    assert [answer["reason"] for answer in refused] == [*["unreadable"] * 5, "too_large"]
    assert [answer["probability"] for answer in refused] == [None] * 6
    assert first == last
    assert first["probability"] == pytest.approx(expected["07.bmp"], abs=1e-6)


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
def test_an_invalid_request_is_answered_with_the_reason(server, body, message):
    with pytest.raises(urllib.error.HTTPError) as raised:
        post(server, body.encode() if isinstance(body, str) else json.dumps(body).encode())
    assert raised.value.code == 400
    assert message in raised.value.read().decode()
    assert answers(f"{server}/ping")


def test_parallel_clients_get_their_own_answers_which_are_those_of_scoring(server, folder, expected):
    contents = {name: as_text((folder / name).read_bytes()) for name in expected}
    end = time.monotonic() + SECONDS

    def client(number):
        rng, n_calls = random.Random(number), 0
        while time.monotonic() < end:
            names = rng.choices([*contents, "broken"], k=rng.randint(1, 6))
            params = {"heatmap": True} if rng.random() < 0.2 else {}
            found = ask(server, [{"image": contents.get(name, "AAAA")} for name in names], **params)
            for name, answer in zip(names, found, strict=True):
                assert answer["status"] == ("scored" if name in contents else "refused")
                assert answer["probability"] == pytest.approx(expected.get(name), abs=1e-6)
                decided = {True: "effusion", False: "nofinding"}
                assert answer["decision"] == (decided[expected[name] >= 0.5] if name in contents else None)
                assert bool(answer.get("heatmap")) == (bool(params) and name in contents)
            n_calls += 1
        return n_calls

    with ThreadPoolExecutor(N_CLIENTS) as pool:
        n_calls = list(pool.map(client, range(N_CLIENTS)))
    assert min(n_calls) >= 3
