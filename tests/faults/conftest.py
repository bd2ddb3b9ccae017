"""Make the helpers of this folder, and those of the tests of images and sources, importable."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "data" / "images"), str(HERE.parent / "data" / "sources")]
