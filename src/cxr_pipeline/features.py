"""Activations of a frozen backbone, computed once per film and view and kept on disk.

A cache is a folder named by everything that decides a value; its entries are addressed by the film's sha256 and
the number of its view. They lie in shards: ``<name>.npy`` (float16, memory-mapped when read) and ``<name>.json``
(which entries, how many bytes). The table is renamed into place after the array, so that a shard without a
table, left by a kill, does not count. Two runs that compute the same entries at once write the same shard, or
two shards that agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lazy_loader
import numpy as np

from cxr_pipeline.files import write_atomically
from cxr_pipeline.progress import progress

if TYPE_CHECKING:
    from keras import Model

tf = lazy_loader.load("tensorflow")

Entry = tuple[str, int]

# Raised when the same key would give other values: another rendering, another rounding.
VERSION = 1
SHARD_BYTES = 16 * 2**20
OPEN_SHARDS = 64
