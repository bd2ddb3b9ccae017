import subprocess
import sys

from cxr_pipeline.training.networks.architectures import ARCHITECTURES
from cxr_pipeline.training.networks.architectures import BACKBONES as NAMES
from cxr_pipeline.training.networks.backbones import BACKBONES
from cxr_pipeline.training.networks.build import NETWORKS
from cxr_pipeline.training.networks.weights import PUBLISHED


def test_what_has_a_name_can_be_built_and_every_backbone_has_weights() -> None:
    assert tuple(NETWORKS) == ARCHITECTURES
    assert tuple(BACKBONES) == NAMES == tuple(PUBLISHED)


def test_the_names_need_no_keras() -> None:
    code = (
        "import sys, cxr_pipeline.training.networks.architectures; print({'keras', 'h5py', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
