"""Readers of files that users, other programs or earlier runs write."""

import asyncio
import base64
import importlib
import io
import json
import shutil
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from dicom_files import compress, dataset, dicom, levels, lut, to_bytes
from mutations import Change, change_bytes, change_json, change_png, change_table, in_gzip
from PIL import Image
from pydicom import uid

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data import manifest
from cxr_pipeline.data.images.recipe import Recipe

RECIPE = Recipe(size=32, mode="fit", max_megapixels=100, steps=({"operation": "clahe", "clip_limit": 2.0, "tiles": 4},))
GREY = levels(8)
DEEP, COLOUR = GREY.astype(np.uint16) * 257, np.dstack([GREY, GREY[::-1], 255 - GREY])
CLEAR, BITS = np.dstack([COLOUR, GREY]), Image.fromarray(GREY).convert("1")


class Reader(NamedTuple):
    """A file that can be read, a call that reads it, how its content is changed, and other content to change."""

    file: Path
    read: Callable[[], object]
    change: Change
    others: Sequence[bytes] = ()


def _written(write: Callable[[io.BytesIO], object]) -> bytes:
    content = io.BytesIO()
    write(content)
    return content.getvalue()


def _encoded(kind: str, *images: Any, **options: Any) -> list[bytes]:
    pictures = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
    return [_written(lambda file, picture=picture: picture.save(file, kind, **options)) for picture in pictures]


def _images(contents: Callable[[Path], list[bytes]], folder: Path, *, change: Change = change_bytes) -> Reader:
    from cxr_pipeline.data.images.dicom import check_chest

    first, *others = contents(folder)
    (folder / "image").write_bytes(first)

    def read() -> None:
        try:
            check_chest((folder / "image").read_bytes())
            image = RECIPE.prepare((folder / "image").read_bytes())
        except ImageRefused as refusal:
            assert refusal.reason in manifest.REASONS, refusal
            raise UserError(str(refusal)) from refusal
        assert (image.dtype, image.shape) == (np.uint8, (32, 32)), (image.dtype, image.shape)

    return Reader(folder / "image", read, change, others)


def _pngs(folder: Path) -> list[bytes]:
    deep = cv2.imencode(".png", cv2.merge([DEEP, DEEP[::-1], DEEP]))[1].tobytes()
    images = _encoded("PNG", GREY, DEEP, COLOUR, CLEAR, Image.fromarray(COLOUR).quantize(16), BITS)
    return [*images, deep, *_encoded("PNG", GREY, transparency=3)]


def _jpegs(folder: Path) -> list[bytes]:
    turned = Image.Exif()
    turned[274] = 6
    images = _encoded("JPEG", GREY, Image.fromarray(COLOUR).convert("CMYK"))
    return [*images, *_encoded("JPEG", COLOUR, exif=turned), *_encoded("JPEG", COLOUR, progressive=True)]


def _tiffs(folder: Path) -> list[bytes]:
    images = _encoded("TIFF", GREY, DEEP, GREY.astype(np.float32), GREY.astype(np.int32), CLEAR)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        images += _encoded("TIFF", GREY, COLOUR, compression=compression)
    images += _encoded("TIFF", BITS, compression="group4") + _encoded("TIFF", GREY, big_tiff=True)
    return images + _encoded("TIFF", GREY, save_all=True, append_images=[Image.fromarray(255 - GREY)])


def _others(folder: Path) -> list[bytes]:
    images = _encoded("BMP", GREY, COLOUR) + _encoded("WEBP", COLOUR) + _encoded("WEBP", CLEAR, lossless=True)
    moving = _encoded("WEBP", COLOUR, save_all=True, append_images=[Image.fromarray(COLOUR[::-1])])
    return images + moving + _encoded("GIF", GREY)


def _plain_dicom(folder: Path) -> list[bytes]:
    window = {"WindowCenter": 100, "WindowWidth": 80}
    sequence = [lut(0, np.arange(256) * 200, 16)]
    syntaxes = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
    return [
        *(to_bytes(dataset(levels(12), bits=12, syntax=syntax)) for syntax in syntaxes),
        dicom(GREY, syntax=uid.DeflatedExplicitVRLittleEndian),
        dicom(levels(16, signed=True), PixelPaddingValue=-32768, PixelPaddingRangeLimit=-32000),
        dicom(GREY, VOILUTSequence=sequence, **window),
        dicom(GREY, ModalityLUTSequence=sequence, PhotometricInterpretation="MONOCHROME1"),
        dicom(GREY, VOILUTFunction="SIGMOID", RescaleSlope=2, RescaleIntercept=-9, **window),
    ]


def _compressed_dicom(folder: Path) -> list[bytes]:
    lossless = ("RLELossless", "JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")
    lossy = ("JPEGBaselineProcess1", "JPEGExtendedProcess2_4", "JPEGLSNearLossless", "JPEG2000")
    return [compress(dataset(GREY), name, folder) for name in (*lossless, *lossy)]


def _source(layout: str, file: str, change: Change, folder: Path) -> Reader:
    """Read a source in which one file is changed."""
    from cxr_pipeline.data.sources import LAYOUTS, check_source
    from cxr_pipeline.data.sources.labels import LabelMap
    from cxr_pipeline.data.sources.nih import read_boxes
    from cxr_pipeline.framework.config import Sources

    path, options = importlib.import_module(f"samples.{layout}").write(folder / "images")
    if file == "BBox_List_2017.csv":
        box = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,1,2,30,40,,,\n"
        (path / file).write_text(box)
    elif file == "labels.parquet":
        pd.read_csv(path / "labels.csv", dtype="str").to_parquet(path / file)
        options |= {"table": file}
    block = {"images": {"layout": layout, "path": str(path), **options}}
    options = Sources.model_validate(block).root["images"].options
    labels = LabelMap({"ill": ("ill", "Mass", "Edema"), "well": ("well", "No Finding", "")}, exclusive=False)

    def read() -> None:
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        check_source("images", layout, path, classes={"ill": ["ill"]})
        listing = LAYOUTS[layout].read(path, **options)
        reader = LAYOUTS[layout].reader(path, unpacked=folder / "unpacked", **options)
        images, refused, _ = manifest.list_images({"images": (reader, listing)}, labels=labels)
        assert set(refused["reason"]) <= set(manifest.REASONS), set(refused["reason"])
        assert images["age"].dropna().between(0, 120).all(), images["age"]
        boxes = read_boxes({"images": path}, images)[["left", "top", "right", "bottom"]]
        assert ((boxes >= 0) & (boxes <= 1)).all(axis=None), boxes

    return Reader(folder / "images" / file, read, change)


def _parquet(folder: Path) -> Reader:
    """Also with columns of other types."""
    reader = _source("label_table", "labels.parquet", change_bytes, folder)
    table = pd.read_parquet(reader.file)
    columns = [[value] * len(table) for value in (b"\xff\xfe", [1, 2], {"a": 1}, None, 0.5, pd.Timestamp(0))]
    changed = [table.assign(**{name: column}) for name in ("image", "Mass", "age") for column in columns]
    return reader._replace(others=[_written(each.to_parquet) for each in changed])


def _medmnist(folder: Path) -> Reader:
    """Also with arrays of other types and shapes, and with objects."""
    reader = _source("medmnist", "images.npz", change_bytes, folder)
    arrays = dict(np.load(reader.file))
    changed = []
    for name in ("train_images", "train_labels"):
        others = [arrays[name].astype(kind) for kind in ("f4", "i8", "S3", "U3", "c8", "?", "O")]
        others += [arrays[name].ravel(), arrays[name][..., None, None], np.asfortranarray(arrays[name])]
        changed += [arrays | {name: other} for other in others]
    return reader._replace(
        others=[_written(lambda file, each=each: np.savez_compressed(file, **each)) for each in changed]
    )


def _weights(name: str, folder: Path) -> Reader:
    """Weights of Keras 3 (``.weights.h5``), Keras 2 or PyTorch, and the beginning of files of other libraries."""
    import h5py
    import keras
    from safetensors.numpy import save_file

    from cxr_pipeline.training.networks.weight_files import load_weights
    from cxr_pipeline.training.networks.weights import find_weights

    image, convolution = keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, use_bias=False, name="conv1_conv")
    layers = [image, convolution, keras.layers.BatchNormalization(name="conv1_bn")]
    network = keras.Sequential(layers, name="densenet121")
    network.save_weights(folder / "new.weights.h5")
    parts = ("weight", "bias", "running_mean", "running_var")
    tensors = {f"features.norm0.{part}": np.ones(2, np.float32) for part in parts}
    tensors["features.conv0.weight"] = np.ascontiguousarray(network.get_weights()[0].transpose(3, 2, 0, 1))
    save_file(tensors, folder / "own.safetensors")
    with h5py.File(folder / "old.h5", "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        for layer in network.layers:
            group = file.create_group(layer.name)
            group.attrs["weight_names"] = [weight.name.encode() for weight in layer.weights]
            for weight in layer.weights:
                group[weight.name] = weight.numpy()

    def read() -> None:
        find_weights("densenet121", str(folder / name), folder)
        load_weights(network, folder / name)
        assert all(np.isfinite(values).all() for values in network.get_weights())

    header = b'{"kernel": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    safetensors = len(header).to_bytes(8, "little") + header + bytes(8)
    torch = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + bytes(64)
    return Reader(folder / name, read, change_bytes, (safetensors, torch))


def _registered(file: str, change: Change, folder: Path) -> Reader:
    """Read a registered model in which one file is changed."""
    from stub_models import fixed_rule, grey_network

    from cxr_pipeline.deployment.classifier import ImageClassifier
    from cxr_pipeline.tracking.versions import load_classifier

    place = folder / "model" / "artifacts" / "classifier"
    place.parent.mkdir(parents=True)
    ImageClassifier(grey_network(32), RECIPE, fixed_rule(calibration="platt"), {"task": "effusion"}).save(place)

    def read() -> None:
        scored = load_classifier(str(folder / "model")).score_batch([GREY[:32, :32]])
        assert scored["probability"].between(0, 1).all(), scored

    return Reader(place / file, read, change)


def _dataset(file: str, change: Change, folder: Path) -> Reader:
    """Read a file of the catalog."""
    from phantom_patients import features_of, make_classifier

    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
    from cxr_pipeline.framework.datasets import FileDataset, TableDataset

    content: Any = {"kind": "binary", "classes": ["a", "b"], "thresholds": {"b": 0.5}}
    if file == "splits.parquet":
        content = pd.DataFrame({"image": [f"{number}.png" for number in range(50)], "split": "train"})
    elif file == "drift_profile.npz":
        sides = [features_of(make_classifier(), patients) for patients in (range(1, 31), range(31, 61))]
        content = ReferenceProfile.fit(*sides, outputs=("ill",), seed=0)
    catalogued = (TableDataset if file == "splits.parquet" else FileDataset)(filepath=folder / file)
    catalogued.save(content)
    return Reader(folder / file, catalogued.load, change)


def _records(folder: Path) -> Reader:
    """Damaged records of earlier runs count as none."""
    from cxr_pipeline.common.locks import Holder, RunLock
    from cxr_pipeline.experiments.cells import is_done
    from cxr_pipeline.framework.hooks.consistency import Origins

    origins = {"model": {"digest": "5f3a", "inputs": {"images": "11aa"}}}
    contents = (vars(Holder.current("effusion")), origins, {"error": None, "seconds": 1.5, "run_id": "1a2b"})
    first, *others = (json.dumps(content).encode() for content in contents)
    (folder / "record").write_bytes(first)

    def read() -> None:
        for name in ("run.json", "origins.json", "outcome.json", "mlflow_run.json"):
            shutil.copy(folder / "record", folder / name)
        lock = RunLock(folder / "run.lock", "effusion")
        lock.acquire("effusion")
        lock.release()
        Origins(folder / "origins.json").check({"model": "5f3a"})
        is_done(folder)

    return Reader(folder / "record", read, change_json, others)


def _checkpoints(folder: Path) -> Reader:
    from cxr_pipeline.training.checkpoints import PhaseState

    path = folder / "state.npz"
    groups: dict[int, list[Any]] = {0: [np.ones(5)]}
    PhaseState([{"epoch": 1, "loss": 0.5}], groups, groups, [np.ones((3, 2))], [np.ones(1)]).save(path)
    return Reader(path, partial(PhaseState.load, path), change_bytes)


def _stored_arrays(folder: Path) -> Reader:
    """A damaged array counts as missing, and is never returned."""
    from cxr_pipeline.common.array_store import ArrayStore, write_shard

    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    keys = ["0", "1", "2"]

    def read() -> None:
        opened = ArrayStore(folder, np.float32, (4,))
        missing = opened.missing(keys)
        found = [key for key in keys if key not in missing]
        if found:
            assert np.array_equal(opened.read(found), values[[int(key) for key in found]])

    return Reader(write_shard(folder, keys, values), read, change_bytes)


def _parameters(folder: Path) -> Reader:
    from omegaconf import OmegaConf
    from shipped import CONF, parameters_of

    from cxr_pipeline import settings
    from cxr_pipeline.framework.config_loader import TaskConfigLoader
    from cxr_pipeline.framework.invalid_parameters import check_parameters

    file = folder / "demo" / "parameters.yml"
    for place in (folder / "base", file.parent):
        place.mkdir()
    shutil.copy(CONF / "demo" / "globals.yml", file.parent)
    block = OmegaConf.to_container(OmegaConf.create(parameters_of("effusion", "demo")))
    file.write_text(json.dumps({"effusion": block}))

    def read() -> None:
        loaded = TaskConfigLoader(str(folder), env="demo", **settings.CONFIG_LOADER_ARGS)["parameters"]
        check_parameters(loaded, {}, "effusion")

    return Reader(file, read, change_json)


def _requests(folder: Path) -> Reader:
    """Read the body of a request, as the server of a registered model does."""
    import mlflow
    from mlflow.pyfunc import scoring_server
    from stub_models import fixed_rule, grey_network, mlflow_file, register

    with mlflow_file(folder):
        app = scoring_server.init(mlflow.pyfunc.load_model(register(grey_network(32), fixed_rule(), RECIPE)["uri"]))
    scope = {"type": "http", "method": "POST", "path": "/invocations", "query_string": b""}
    scope["headers"] = [(b"content-type", b"application/json")]
    loop = asyncio.new_event_loop()

    def read() -> None:
        answers: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": (folder / "request").read_bytes()}

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        try:
            loop.run_until_complete(app(dict(scope), receive, send))
        except Exception as error:
            files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
            if any("cxr_pipeline" in file and "site-packages" not in file for file in files[1:]):
                raise
            # MLflow answers 500 to some requests that it cannot convert to a table.
            raise UserError(str(error)) from error
        status, body = answers[0]["status"], b"".join(answer.get("body", b"") for answer in answers)
        assert status in (200, 400), (status, body[:300])
        assert b"site-packages" not in body, body[:300]
        if status == 400:
            raise UserError(body.decode())
        for row in json.loads(body)["predictions"]:
            assert row["status"] == "refused" or 0 <= row["probability"] <= 1, row

    image = base64.b64encode(_encoded("PNG", GREY)[0]).decode()
    requests = (
        {"dataframe_records": [{"image": image}, {"image": "/etc/passwd"}], "params": {"heatmap": False}},
        {"dataframe_split": {"columns": ["image"], "data": [[image], [""]]}, "params": {"heatmap": True}},
        {"inputs": [image]},
        {"inputs": {"image": [image]}},
        {"instances": [{"image": image}]},
    )
    first, *others = (json.dumps(request).encode() for request in requests)
    (folder / "request").write_bytes(first)
    return Reader(folder / "request", read, change_json, others)


# Each makes a reader with files in an empty folder.
READERS: dict[str, Callable[[Path], Reader]] = {
    "PNG": partial(_images, _pngs, change=change_png),
    "JPEG": partial(_images, _jpegs),
    "TIFF": partial(_images, _tiffs),
    "BMP, WEBP, GIF": partial(_images, _others),
    "DICOM": partial(_images, _plain_dicom),
    "compressed DICOM": partial(_images, _compressed_dicom),
    "label_table": partial(_source, "label_table", "labels.csv", change_table),
    "Parquet": _parquet,
    "nih labels": partial(_source, "nih", "Data_Entry_2017.csv", change_table),
    "nih boxes": partial(_source, "nih", "BBox_List_2017.csv", change_table),
    "nih splits": partial(_source, "nih", "test_list.txt", change_table),
    "chexpert": partial(_source, "chexpert", "train.csv", change_table),
    "dicom_folder labels": partial(_source, "dicom_folder", "labels.csv", change_table),
    "dicom_folder headers": partial(_source, "dicom_folder", "a/1.dcm", change_bytes),
    "pixel_table": partial(_source, "pixel_table", "chests.csv.gz", in_gzip(change_table)),
    "gzip": partial(_source, "pixel_table", "chests.csv.gz", change_bytes),
    "medmnist": _medmnist,
    "Keras 3 weights": partial(_weights, "new.weights.h5"),
    "Keras 2 weights": partial(_weights, "old.h5"),
    "PyTorch weights": partial(_weights, "own.safetensors"),
    "model settings": partial(_registered, "classifier.json", change_json),
    "model network": partial(_registered, "model.keras", change_bytes),
    "catalog JSON": partial(_dataset, "decision_rule.json", change_json),
    "catalog Parquet": partial(_dataset, "splits.parquet", change_bytes),
    "reference profile": partial(_dataset, "drift_profile.npz", change_bytes),
    "records": _records,
    "checkpoints": _checkpoints,
    "stored arrays": _stored_arrays,
    "parameters": _parameters,
    "requests": _requests,
}
