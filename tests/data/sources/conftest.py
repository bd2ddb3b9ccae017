"""Make the package ``samples`` beside this file, and the DICOM files of the tests of images, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "images")]
