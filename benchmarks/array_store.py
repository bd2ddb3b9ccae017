"""Random reads of prepared images from the array store, from a plain memory map, and from zarr if it is installed.

Run ``python benchmarks/array_store.py``; ``pip install zarr`` first for the comparison. All read the same uint8 images
of 224 x 224 pixels, 32 at a time in random order, from files that the system has in memory.
"""

import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from cxr_pipeline.common.array_store import ArrayStore

N_IMAGES, SHARD, SIZE, BATCH = 10_000, 500, 224, 32
INDEXED = 112_120


def stores(folder: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Write the images in each form, and return a reader of row numbers for each."""
    block = np.random.default_rng(0).integers(0, 256, (SHARD, SIZE, SIZE), dtype=np.uint8)
    keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(N_IMAGES)]
    store = ArrayStore(folder / "store", np.uint8, (SIZE, SIZE))
    plain = np.lib.format.open_memmap(folder / "plain.npy", "w+", np.uint8, (N_IMAGES, SIZE, SIZE))
    for start in range(0, N_IMAGES, SHARD):
        store.write(keys[start : start + SHARD], block)
        plain[start : start + SHARD] = block
    readers: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "array store": lambda rows: store.read([keys[row] for row in rows]),
        "numpy.memmap": lambda rows: plain[rows],
    }
    if find_spec("zarr"):
        import zarr

        layout = {"shape": (N_IMAGES, SIZE, SIZE), "chunks": (1, SIZE, SIZE), "dtype": "uint8", "compressors": None}
        for name, options in {"zarr, a file per row": {}, "zarr, shards": {"shards": (SHARD, SIZE, SIZE)}}.items():
            array = zarr.create_array(store=str(folder / name), **layout, **options)
            for start in range(0, N_IMAGES, SHARD):
                array[start : start + SHARD] = block
            readers[name] = lambda rows, array=array: array.oindex[np.sort(rows)]
    return readers


def main() -> None:
    """Measure in a temporary folder."""
    folder = Path(tempfile.mkdtemp())
    try:
        order = np.random.default_rng(1).permutation(N_IMAGES)[: 60 * BATCH].reshape(-1, BATCH)
        for name, read in stores(folder).items():
            for rows in order[:10]:
                read(rows)
            start = time.perf_counter()
            for rows in order[10:]:
                read(rows)
            print(f"{name:<22}{50 * BATCH / (time.perf_counter() - start):9,.0f} images/s")
        small = ArrayStore(folder / "small", np.uint8, (4, 4))
        keys = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(INDEXED)]
        for first in range(0, INDEXED, SHARD):
            small.write(keys[first : first + SHARD], np.zeros((len(keys[first : first + SHARD]), 4, 4), np.uint8))
        start = time.perf_counter()
        opened = len(ArrayStore(folder / "small", np.uint8, (4, 4)))
        print(f"index of {opened:,} images opened in {time.perf_counter() - start:.2f} s")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
