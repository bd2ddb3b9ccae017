"""Every reader of files that others write: valid content of each kind, and a call that reads changed content."""

import asyncio
import base64
import gzip
import importlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from dicom_files import compress, dataset, dicom, levels, lut, to_bytes
from mutations import Change, change_bytes, change_json, change_table
from PIL import Image
from pydicom import uid

from cxr_pipeline.common.array_store import ArrayStore
from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data import manifest
from cxr_pipeline.data.images.dicom import check_chest
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.sources import LAYOUTS, check_source
from cxr_pipeline.data.sources.boxes import read_boxes
from cxr_pipeline.data.sources.labels import LabelMap

RECIPE = Recipe(size=32, mode="fit", max_megapixels=100, steps=({"operation": "clahe", "clip_limit": 2.0, "tiles": 4},))
LABELS = LabelMap({"ill": ("ill", "Mass", "Edema", "Effusion"), "well": ("well", "No Finding", "")}, exclusive=False)
COMPRESSED = ("RLELossless", "JPEGBaselineProcess1", "JPEGExtendedProcess2_4", "JPEGLosslessProcess14_1")
COMPRESSED += ("JPEGLSLossless", "JPEGLSNearLossless", "JPEG2000Lossless", "JPEG2000")


class Reader(NamedTuple):
    """Valid contents, how to change them, and a call that reads changed content or raises ``errors``."""

    seeds: dict[str, bytes]
    change: Change
    read: Callable[[bytes], object]
    errors: tuple[type[BaseException], ...] = (UserError,)


def _read_image(content: bytes) -> None:
    try:
        check_chest(content)
        image = RECIPE.prepare(content)
    except ImageRefused as refusal:
        assert refusal.reason in manifest.REASONS, refusal
        raise
    assert (image.dtype, image.shape) == (np.uint8, (32, 32)), (image.dtype, image.shape)


def _images(seeds: dict[str, bytes]) -> Reader:
    return Reader(seeds, change_bytes, _read_image, (ImageRefused,))


def _pillow(kind: str, *variants: tuple[Any, dict[str, Any]]) -> Reader:
    seeds = {}
    for number, (pixels, options) in enumerate(variants):
        content = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(content, kind, **options)
        seeds[f"{number}"] = content.getvalue()
    return _images(seeds)


def _explained(call: Callable[[], object]) -> None:
    """Call what a command runs; raise `UserError` for an error that the command explains."""
    from cxr_pipeline.framework.exit import explain

    try:
        call()
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        raise UserError(explained[0]) from error


def png(folder: Path) -> Reader:
    grey, deep, colour, clear = _pixels()
    palette, bits = Image.fromarray(colour).quantize(16), Image.fromarray(grey).convert("1")
    reader = _pillow(
        "PNG", *((each, {}) for each in (grey, deep, colour, clear, palette, bits)), (grey, {"transparency": 3})
    )
    reader.seeds["deep colour"] = cv2.imencode(".png", cv2.merge([deep, deep[::-1], deep]))[1].tobytes()
    return reader


def jpeg(folder: Path) -> Reader:
    grey, _, colour, _ = _pixels()
    exif = Image.Exif()
    exif[274] = 6
    printed = Image.fromarray(colour).convert("CMYK")
    return _pillow("JPEG", (grey, {}), (colour, {"exif": exif}), (colour, {"progressive": True}), (printed, {}))


def tiff(folder: Path) -> Reader:
    grey, deep, colour, clear = _pixels()
    packed = [(grey, {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")]
    plain = [(each, {}) for each in (grey, deep, grey.astype(np.float32), grey.astype(np.int32), clear)]
    bits = (Image.fromarray(grey).convert("1"), {"compression": "group4"})
    pages = (grey, {"save_all": True, "append_images": [Image.fromarray(255 - grey)]})
    return _pillow(
        "TIFF", *packed, *plain, bits, pages, (colour, {"compression": "tiff_lzw"}), (grey, {"big_tiff": True})
    )


def bmp_webp_gif(folder: Path) -> Reader:
    grey, _, colour, clear = _pixels()
    seeds = {}
    for kind, pixels, options in (("BMP", grey, {}), ("BMP", colour, {}), ("GIF", grey, {}), ("WEBP", colour, {})):
        seeds |= {f"{kind} {len(seeds)}": _pillow(kind, (pixels, options)).seeds["0"]}
    seeds["lossless"] = _pillow("WEBP", (clear, {"lossless": True})).seeds["0"]
    moving = {"save_all": True, "append_images": [Image.fromarray(colour[::-1])]}
    return _images(seeds | {"moving": _pillow("WEBP", (colour, moving)).seeds["0"]})


def dicom_plain(folder: Path) -> Reader:
    syntaxes = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    seeds = {syntax.name: to_bytes(dataset(levels(12), bits=12, syntax=syntax)) for syntax in syntaxes}
    table, window = lut(0, np.arange(256) * 200, 16), {"WindowCenter": 100, "WindowWidth": 80}
    seeds["deflated"] = to_bytes(dataset(levels(8), syntax=uid.DeflatedExplicitVRLittleEndian))
    seeds["signed"] = dicom(levels(16, signed=True), PixelPaddingValue=-32768, PixelPaddingRangeLimit=-32000)
    seeds["LUT"] = dicom(levels(8), VOILUTSequence=[table], **window)
    seeds["modality"] = dicom(levels(8), ModalityLUTSequence=[table], PhotometricInterpretation="MONOCHROME1")
    seeds["window"] = dicom(levels(8), VOILUTFunction="SIGMOID", RescaleSlope=2, RescaleIntercept=-9, **window)
    return _images(seeds)


def dicom_compressed(folder: Path) -> Reader:
    return _images({name: compress(dataset(levels(8)), name, folder) for name in COMPRESSED})


def _source(folder: Path, layout: str, file: str, change: Change) -> Reader:
    """Return a reader of a file of a layout's sample; the other files stay valid."""
    from cxr_pipeline.framework.config import Sources

    sample = importlib.import_module(f"samples.{layout}")
    path, options = sample.write(folder / "images")
    if layout == "nih":
        box = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,1,2,30,40,,,\n"
        (folder / "images" / "BBox_List_2017.csv").write_text(box)
    if file.endswith(".parquet"):
        pd.read_csv(path / "labels.csv", dtype="str").to_parquet(path / file)
        options |= {"table": file}
    source = Sources.model_validate({"images": {"layout": layout, "path": str(path), **options}}).root["images"]
    target, unpacked = folder / "images" / file, folder / "unpacked"
    valid = target.read_bytes()

    def read(content: bytes) -> None:
        target.write_bytes(gzip.compress(content, 1) if file.endswith(".gz") and change is change_table else content)
        shutil.rmtree(unpacked, ignore_errors=True)
        check_source("images", layout, path, classes={"ill": ["ill"]})
        reader = LAYOUTS[layout].reader(path, unpacked=unpacked, **source.options)
        listing = LAYOUTS[layout].read(path, **source.options)
        images, refused, _ = manifest.list_images({"images": (reader, listing)}, labels=LABELS)
        assert set(refused["reason"]) <= set(manifest.REASONS), set(refused["reason"])
        assert images["age"].dropna().between(0, 120).all(), images["age"]
        boxes = read_boxes({"images": path}, images)
        assert boxes[["left", "top", "right", "bottom"]].apply(lambda side: side.between(0, 1)).all(axis=None), boxes

    plain = gzip.decompress(valid) if file.endswith(".gz") and change is change_table else valid
    return Reader({file: plain}, change, read)


def label_table(folder: Path) -> Reader:
    return _source(folder, "label_table", "labels.csv", change_table)


def parquet_table(folder: Path) -> Reader:
    """Parquet files with columns of other types, too."""
    odd = {"bytes": b"\xff\xfe", "lists": [1, 2], "maps": {"a": 1}, "null": None, "halves": 0.5}
    columns = {kind: [value] * 10 for kind, value in odd.items()} | {"categories": pd.Categorical(["a"] * 10)}
    columns |= {"times": pd.to_datetime([0] * 10), "numbers": range(10)}
    reader = _source(folder, "label_table", "labels.parquet", change_bytes)
    table = pd.read_parquet(io.BytesIO(reader.seeds["labels.parquet"]))
    for kind, values in columns.items():
        for name in ("image", "Mass", "age"):
            content = io.BytesIO()
            table.assign(**{name: values}).to_parquet(content)
            reader.seeds[f"{name} {kind}"] = content.getvalue()
    return reader


def nih_labels(folder: Path) -> Reader:
    return _source(folder, "nih", "Data_Entry_2017.csv", change_table)


def nih_boxes(folder: Path) -> Reader:
    return _source(folder, "nih", "BBox_List_2017.csv", change_table)


def nih_lists(folder: Path) -> Reader:
    return _source(folder, "nih", "test_list.txt", change_table)


def chexpert(folder: Path) -> Reader:
    return _source(folder, "chexpert", "train.csv", change_table)


def dicom_labels(folder: Path) -> Reader:
    return _source(folder, "dicom_folder", "labels.csv", change_table)


def dicom_headers(folder: Path) -> Reader:
    return _source(folder, "dicom_folder", "a/1.dcm", change_bytes)


def pixel_table(folder: Path) -> Reader:
    return _source(folder, "pixel_table", "chests.csv.gz", change_table)


def pixel_archive(folder: Path) -> Reader:
    return _source(folder, "pixel_table", "chests.csv.gz", change_bytes)


def medmnist(folder: Path) -> Reader:
    """Archives with arrays of other types and shapes, too, and one that holds an object."""
    reader = _source(folder, "medmnist", "images.npz", change_bytes)
    arrays = dict(np.load(io.BytesIO(reader.seeds["images.npz"])))
    for name in ("train_images", "train_labels"):
        kinds = {kind: arrays[name].astype(kind) for kind in ("f4", "i8", "S3", "U3", "c8", "?", "O")}
        kinds |= {
            "flat": arrays[name].ravel(),
            "deep": arrays[name][..., None, None],
            "F": np.asfortranarray(arrays[name]),
        }
        for kind, values in kinds.items():
            content = io.BytesIO()
            np.savez_compressed(content, **(arrays | {name: values}))
            reader.seeds[f"{name} {kind}"] = content.getvalue()
    return reader


def weights(folder: Path) -> Reader:
    """Weights of Keras 3 and Keras 2, and files of other libraries."""
    import h5py
    import keras

    from cxr_pipeline.training.networks.weights import find_weights, load_weights

    layers = keras.layers
    network = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.BatchNormalization()], name="densenet121"
    )
    network.save_weights(folder / "new.weights.h5")
    with h5py.File(folder / "old.h5", "w") as file:
        named = [layer for layer in network.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in named]
        for layer in named:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.name.encode() for weight in layer.weights]
            for weight in layer.weights:
                group[weight.name] = weight.numpy()
    seeds = {path.name: path.read_bytes() for path in sorted(folder.glob("*.h5"))}
    header = json.dumps({"kernel": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    seeds["safetensors"] = len(header).to_bytes(8, "little") + header + bytes(8)
    seeds["torch"] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + bytes(64)
    target = folder / "changed.h5"

    def read(content: bytes) -> None:
        # Some libraries choose the format by the name.
        path = target if b"layer_names" in content else target.with_name("changed.weights.h5")
        path.write_bytes(content)
        find_weights("densenet121", str(path), folder)
        load_weights(network, path)
        assert all(np.isfinite(values).all() for values in network.get_weights())

    return Reader(seeds, change_bytes, read)


def registered_model(folder: Path) -> Reader:
    """The settings of a registered model: recipe, decision rule and provenance."""
    return _classifier(folder, "classifier.json", change_json)


def registered_network(folder: Path) -> Reader:
    return _classifier(folder, "model.keras", change_bytes)


def _classifier(folder: Path, file: str, change: Change) -> Reader:
    from stub_models import fixed_rule, grey_network

    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.tracking.versions import load_classifier

    place = folder / "model" / "artifacts" / "classifier"
    place.parent.mkdir(parents=True)
    ImageClassifier(grey_network(32), RECIPE, fixed_rule(calibration="platt"), {"task": "effusion"}).save(place)
    image = np.full((32, 32), 200, np.uint8)

    def read(content: bytes) -> None:
        (place / file).write_bytes(content)
        probability = load_classifier(str(folder / "model")).score_batch([image])["probability"]
        assert probability.between(0, 1).all(), probability

    return Reader({file: (place / file).read_bytes()}, change, read)


def task_documents(folder: Path) -> Reader:
    """JSON files of a task, as the catalog reads them."""
    from cxr_pipeline.framework.datasets.files import FileDataset

    (folder / "rule.json").write_bytes(b"")
    dataset_of = FileDataset(filepath=folder / "rule.json")
    dataset_of.save({"kind": "binary", "classes": ["a", "b"], "thresholds": {"b": 0.5}})

    def read(content: bytes) -> None:
        (folder / "rule.json").write_bytes(content)
        _explained(dataset_of.load)

    return Reader({"rule": (folder / "rule.json").read_bytes()}, change_json, read)


def records(folder: Path) -> Reader:
    """Records of earlier runs, of which a damaged one counts as none: nothing is raised."""
    from cxr_pipeline.common.locks import Holder, RunLock
    from cxr_pipeline.common.origins import Origins
    from cxr_pipeline.experiments.cells import is_done

    files = {name: folder / name for name in ("run.json", "origins.json", "outcome.json", "mlflow_run.json")}
    seeds = {
        "run.json": Holder.current("effusion").__dict__,
        "origins.json": {"model": {"digest": "5f3a", "inputs": {"images": "11aa"}}},
        "outcome.json": {"error": None, "seconds": 1.5, "peak_memory_mb": 90, "retryable": False},
        "mlflow_run.json": {"run_id": "1a2b", "commit": None},
    }

    def read(content: bytes) -> None:
        for file in files.values():
            file.write_bytes(content)
        lock = RunLock(folder / "run.lock", "effusion")
        lock.acquire("effusion")
        lock.release()
        Origins(files["origins.json"]).check({"model": "5f3a"})
        is_done(folder)

    return Reader({name: json.dumps(seed).encode() for name, seed in seeds.items()}, change_json, read)


def checkpoints(folder: Path) -> Reader:
    """A damaged checkpoint counts as none: nothing is raised."""
    from cxr_pipeline.training.checkpoints import PhaseState

    path = folder / "state.npz"
    PhaseState([{"epoch": 1, "loss": 0.5}], {0: [np.ones(5)]}, {0: [np.ones(2, np.uint32)]}, [np.ones((3, 2))]).save(
        path
    )

    def read(content: bytes) -> None:
        path.write_bytes(content)
        state = PhaseState.load(path)
        assert all(isinstance(each, np.ndarray) for each in state.variables)

    return Reader({"state": path.read_bytes()}, change_bytes, read, ())


def stored_arrays(folder: Path) -> Reader:
    """A damaged shard counts as missing, and its arrays are never returned changed."""
    store = ArrayStore(folder / "store", np.float32, (4,))
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    store.write(["a", "b", "c"], values)
    shard = store.shard_of("a")

    def read(content: bytes) -> None:
        shard.unlink(missing_ok=True)
        shard.write_bytes(content)
        opened = ArrayStore(folder / "store", np.float32, (4,))
        keys = [key for key in "abc" if key not in opened.missing(["a", "b", "c"])]
        if keys:
            assert np.array_equal(opened.read(keys), values[["abc".index(key) for key in keys]])

    return Reader({"shard": shard.read_bytes()}, change_bytes, read)


def drift_profile(folder: Path) -> Reader:
    from phantom_patients import features_of, make_classifier

    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
    from cxr_pipeline.framework.datasets.files import FileDataset

    sides = [features_of(make_classifier(), patients) for patients in (range(1, 31), range(31, 61))]
    path = folder / "profile.npz"
    ReferenceProfile.fit(*sides, outputs=("ill",), seed=0).save(path)
    stored = FileDataset(filepath=path)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _explained(stored.load)

    return Reader({"profile": path.read_bytes()}, change_bytes, read)


def split_registry(folder: Path) -> Reader:
    from cxr_pipeline.framework.datasets.table import TableDataset

    path = folder / "splits.parquet"
    stored = TableDataset(filepath=path, columns_if_missing=["image"])
    stored.save(pd.DataFrame({"image": [f"{number}.png" for number in range(50)], "split": "train"}))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        _explained(stored.load)

    return Reader({"splits": path.read_bytes()}, change_bytes, read)


def parameters(folder: Path) -> Reader:
    """Parameters of a project, as the command line reads and explains them."""
    from omegaconf import OmegaConf
    from shipped import CONF, parameters_of

    from cxr_pipeline import settings
    from cxr_pipeline.framework.config_loader import TaskConfigLoader
    from cxr_pipeline.framework.invalid_parameters import check_parameters

    changed = folder / "demo" / "parameters" / "changed.yml"
    changed.parent.mkdir(parents=True)
    shutil.copy(CONF / "demo" / "globals.yml", folder / "demo")
    (folder / "base").mkdir()
    seed = OmegaConf.to_container(OmegaConf.create(parameters_of("effusion", "demo")))

    def load() -> None:
        loaded = TaskConfigLoader(str(folder), env="demo", **settings.CONFIG_LOADER_ARGS)["parameters"]
        check_parameters(loaded, {}, "effusion")

    def read(content: bytes) -> None:
        changed.write_bytes(content)
        _explained(load)

    return Reader({"effusion": json.dumps({"effusion": seed}).encode()}, change_json, read)


def requests(folder: Path) -> Reader:
    """Requests to a server of a registered model: an answer for each image, or status 400 without paths."""
    import mlflow
    from mlflow.pyfunc import scoring_server
    from stub_models import fixed_rule, grey_network, mlflow_file, register

    with mlflow_file(folder):
        app = scoring_server.init(mlflow.pyfunc.load_model(register(grey_network(32), fixed_rule(), RECIPE)["uri"]))
    grey, *_ = _pixels()
    text = base64.b64encode(cv2.imencode(".png", grey)[1].tobytes()).decode()
    seeds = {
        "records": {"dataframe_records": [{"image": text}, {"image": "/etc/passwd"}], "params": {"heatmap": False}},
        "split": {"dataframe_split": {"columns": ["image"], "data": [[text], [""]]}, "params": {"heatmap": True}},
        "inputs": {"inputs": [text]},
        "named": {"inputs": {"image": [text]}},
        "instances": {"instances": [{"image": text}]},
    }
    loop = asyncio.new_event_loop()

    def read(content: bytes) -> None:
        status, body = loop.run_until_complete(_post(app, content))
        assert status in (200, 400), (status, body[:300])
        assert b"site-packages" not in body, body[:300]
        if status == 400:
            raise UserError(body.decode()[:200])
        answers = json.loads(body)["predictions"]
        assert all(0 <= answer["probability"] <= 1 for answer in answers if answer["status"] == "scored"), answers

    return Reader({name: json.dumps(seed).encode() for name, seed in seeds.items()}, change_json, read)


async def _post(app: Any, body: bytes) -> tuple[int, bytes]:
    """Send a request to an ASGI application."""
    scope = {"type": "http", "method": "POST", "path": "/invocations", "raw_path": b"/invocations", "query_string": b""}
    scope |= {"http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1)}
    scope |= {"headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def _pixels() -> tuple[Any, Any, Any, Any]:
    """Return smooth pixels: grey, with 16 bits, in colour, and with transparency."""
    grey = levels(8)
    colour = np.dstack([grey, grey[::-1], 255 - grey])
    return grey, grey.astype(np.uint16) * 257, colour, np.dstack([colour, grey])


READERS: dict[str, Callable[[Path], Reader]] = {
    reader.__name__: reader
    for reader in (
        *(
            png,
            jpeg,
            tiff,
            bmp_webp_gif,
            dicom_plain,
            dicom_compressed,
            label_table,
            parquet_table,
            nih_labels,
            nih_boxes,
        ),
        *(nih_lists, chexpert, dicom_labels, dicom_headers, pixel_table, pixel_archive, medmnist, weights),
        *(registered_model, registered_network, task_documents, records, checkpoints, stored_arrays, drift_profile),
        *(split_registry, parameters, requests),
    )
}
