from pathlib import Path

import keras
import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.checks import check_network
from cxr_pipeline.training.networks.architectures import ARCHITECTURES, BACKBONES, SMALLEST_SIZES


def check(name="small_cnn", **changes):
    settings = {"weights": "none", "size": 64, "cut": None, "raw": Path(), "task": "effusion"}
    check_network(name, **settings | changes)


@pytest.mark.parametrize("name", BACKBONES)
def test_images_that_are_too_small_for_a_network_are_refused(name):
    smallest = SMALLEST_SIZES[name]
    with pytest.raises(UserError, match=rf"effusion\.resolution\.size is .*, but {name} needs .* {smallest} pixels"):
        check(name, size=smallest - 1)
    check(name, size=smallest)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_that_is_trained_from_scratch_has_no_cut_to_check(name):
    check(name, size=SMALLEST_SIZES[name], cut="nowhere")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The weights of a MobileNetV2."""
    file = tmp_path_factory.mktemp("weights") / "mobilenetv2.weights.h5"
    keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(file)
    return file


@pytest.mark.parametrize(
    ("name", "cut", "message"),
    [
        ("mobilenetv2", None, None),
        ("mobilenetv2", "block_13_add", r"training\.fine_tuning\.cut: expected a layer of .*mobilenetv2.*Try block_1"),
        ("mobilenetv2", "block_14_expand", "is inside a block of mobilenetv2"),
        ("vgg16", None, "Give a file with the weights of vgg16"),
        ("small_cnn", None, "small_cnn takes no pretrained weights"),
    ],
)
def test_weights_that_do_not_fit_and_impossible_cuts_are_refused(weights, name, cut, message):
    if message is None:
        check(name, weights=str(weights), cut=cut)
        return
    with pytest.raises(UserError, match=message):
        check(name, weights=str(weights), cut=cut)
