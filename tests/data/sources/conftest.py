"""Make the package ``samples`` beside this file importable by the tests of sources."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
