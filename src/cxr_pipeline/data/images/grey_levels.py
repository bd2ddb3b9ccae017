"""From the stored values of an image to grey levels of 8 bits: DICOM rescale, LUT, window and padding, and scaling.

Sections are those of part 3 of the DICOM standard, https://www.dicomstandard.org/current. The table in
``docs/guides/layouts.md`` says what happens if an attribute is missing, empty, out of range or repeated.

Values of 16 bits or less go through histograms and lookup tables of their possible values, which are small. Arithmetic
on a whole image of 100 megapixels would need several GiB.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom_headers import number, numbers, text, value

if TYPE_CHECKING:
    from pydicom import Dataset

WINDOWING_TAGS = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)

MISSED = "no window or VOI LUT of the header fits the pixel values, which are shown without one"

ROBUST_PERCENTILES = (0.5, 99.5)

_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_N_ROWS_AT_ONCE = 256


def to_grey_levels(
    pixels: NDArray[Any], header: "Dataset", note: Callable[[str], object] | None = None
) -> NDArray[np.uint8]:
    """Convert stored pixels, integers [height, width], to uint8 grey levels as described for `dicom.decode_dicom`."""
    bits = number(header, "BitsStored")
    lowest = -(1 << bits - 1) if pixels.dtype.kind == "i" else 0
    stored = np.clip(_possible_values(pixels.dtype).astype(np.int32), lowest, lowest + (1 << bits) - 1)
    padding = _is_padding(stored, header, pixels.dtype)
    counts = np.where(padding, 0, _histogram(pixels))
    if not counts.any():
        raise ImageRefused("empty", "every pixel is padding")
    values = _apply_modality_lut(stored, header)
    table = _display_table(values, counts, header, note)
    if table is None and bits <= 8:
        table = np.rint((values - values.min()) / np.ptp(values) * 255)
    elif table is None:
        table = _stretch_table(values, counts)
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        table = 255 - table
    return _look_up(pixels, np.where(padding, 0, table).astype(np.uint8))


def _display_table(
    values: NDArray[np.float64], counts: NDArray[np.int64], header: "Dataset", note: Callable[[str], object] | None
) -> NDArray[np.uint8] | None:
    """Return the grey levels of values by the first VOI LUT or window under which the pixels of the image differ."""
    table = None
    shown_by_luts = (mapped / brightest for mapped, brightest in _apply_luts("VOILUTSequence", values, header))
    for unit in chain(shown_by_luts, _windows(values, header)):
        table = np.asarray(np.rint(unit * 255), dtype=np.uint8)
        if np.ptp(table[counts > 0]):
            return table
    if table is not None and note is not None:
        note(MISSED)
    return None


def _apply_modality_lut(stored: NDArray[np.int32], header: "Dataset") -> NDArray[np.float64]:
    """Apply the modality LUT, or else slope and intercept, by default 1 and 0 (C.11.1)."""
    mapped = next(_apply_luts("ModalityLUTSequence", stored, header), None)
    if mapped is not None:
        values = mapped[0]
    else:
        slope, intercept = numbers(header, "RescaleSlope"), numbers(header, "RescaleIntercept")
        if value(header, "ModalityLUTSequence") and not (slope or intercept):
            raise ImageRefused("unreadable", "a modality LUT that cannot be applied")
        if len(slope) > 1 or len(intercept) > 1:
            raise ImageRefused("unreadable", "several values of RescaleSlope or RescaleIntercept, expected one")
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored.astype(np.float64) * (slope or [1.0])[0] + (intercept or [0.0])[0]
    if not np.isfinite(values).all():
        raise ImageRefused("unreadable", "a rescale to values that are not finite")
    if not np.ptp(values):
        raise ImageRefused("empty", "the modality LUT or rescale makes all values equal")
    return values


def _windows(values: NDArray[np.float64], header: "Dataset") -> Iterator[NDArray[np.float64]]:
    """Map values to 0 to 1 by each window of a valid width (C.11.2.1.2 and C.11.2.1.3)."""
    # A function that is not in the standard is taken as LINEAR, the default.
    function = text(header, "VOILUTFunction")
    exact = function in ("LINEAR_EXACT", "SIGMOID")
    for centre, width in zip(numbers(header, "WindowCenter"), numbers(header, "WindowWidth"), strict=False):
        if not (np.isfinite(centre) and np.isfinite(width) and (width > 0 if exact else width >= 1)):
            continue
        if not exact:
            centre, width = centre - 0.5, width - 1
        # The width 0 of LINEAR and the largest floating-point numbers give infinite values, or nan for 0 / 0.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            position = np.nan_to_num((values - centre) / width, nan=-np.inf)
            unit = 1 / (1 + np.exp(-4 * position)) if function == "SIGMOID" else position + 0.5
        yield unit.clip(0, 1)


def _apply_luts(keyword: str, values: NDArray[Any], header: "Dataset") -> Iterator[tuple[NDArray[np.float64], int]]:
    """Yield values mapped by each LUT of a sequence that can be applied, and the entry for white (C.11.2.1.1)."""
    # pydicom's function accepts LUTs of 8 and 16 bits only, and fails for 8 bits and more than 256 entries.
    for item in value(header, keyword) or ():
        descriptor, data = numbers(item, "LUTDescriptor"), value(item, "LUTData")
        if len(descriptor) != 3 or not np.isfinite(descriptor).all() or not data:
            continue
        n_entries, first, bits = map(int, descriptor)
        entries = _lut_entries(data, n_entries % 65536 or 65536, bits, header)
        # The header may write a signed value as an unsigned one of the same bits, and the reverse.
        for start in (first, first - 65536, first + 65536):
            if len(entries) and start <= values.max() and start + len(entries) > values.min():
                index = np.clip(np.rint(values) - start, 0, len(entries) - 1).astype(np.intp)
                highest = int(entries.max())
                # Some headers give the bits that are allocated for each entry, 16, instead of those used, such as 12.
                fits = 8 <= bits <= 16 and 1 << bits - 2 <= highest < 1 << bits
                n_bits = bits if fits else max(1, highest.bit_length())
                yield entries[index].astype(np.float64), (1 << n_bits) - 1
                break


def _lut_entries(data: Any, n_entries: int, bits: int, header: "Dataset") -> NDArray[Any]:
    """Return the entries of a LUT: words of 16 bits, each of which may contain two entries of 8 bits (C.11.1.1.1)."""
    if isinstance(data, bytes):
        order = ">" if header.file_meta.TransferSyntaxUID == _BIG_ENDIAN else "<"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = np.atleast_1d(np.asarray(data, dtype=np.uint16))
    packed = bits <= 8 and len(words) < n_entries
    entries = words.astype("<u2").view(np.uint8) if packed else words
    return entries[:n_entries]


def _is_padding(stored: NDArray[np.int32], header: "Dataset", dtype: np.dtype[Any]) -> NDArray[np.bool_]:
    """Return which stored values are padding (C.7.5.1.1.2)."""
    first, last = numbers(header, "PixelPaddingValue"), numbers(header, "PixelPaddingRangeLimit")
    if len(first) != 1 or not np.isfinite(first[0]):
        return np.zeros(stored.shape, dtype=np.bool_)
    limits = first + (last if len(last) == 1 and np.isfinite(last[0]) else first)
    # Some files write the bits of a signed value as an unsigned one.
    low, high = np.sort(np.array(limits, dtype=np.int64).astype(dtype))
    return np.asarray((stored >= low) & (stored <= high))


def stretch(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of any type and range to uint8 so that their ``ROBUST_PERCENTILES`` become 0 and 255.

    Values that are not finite are ignored and become 0. An image is ``empty`` if all others are equal.

    Example:
        >>> stretch(np.array([100, 200, 300]))
        array([  0, 128, 255], dtype=uint8)
    """
    if values.ndim == 2 and values.dtype.kind in "iu" and values.itemsize <= 2:
        return _look_up(values, _stretch_table(_possible_values(values.dtype), _histogram(values)))
    finite = np.isfinite(values)
    known = values[finite]
    low, high = np.percentile(known, ROBUST_PERCENTILES, overwrite_input=True) if len(known) else (0, 0)
    low, high = _limits(low, high, known)
    del known
    levels = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), _N_ROWS_AT_ONCE):
        rows = slice(start, start + _N_ROWS_AT_ONCE)
        levels[rows] = _scale(np.where(finite[rows], values[rows], low), low, high)
    return levels


def _stretch_table(values: NDArray[Any], counts: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the grey levels that ``stretch`` gives to values, of which an image has ``counts`` each."""
    found = np.flatnonzero(counts)
    ascending = found[np.argsort(values[found], kind="stable")]
    known, last_ranks = values[ascending], np.cumsum(counts[ascending])
    low, high = (_percentile(known, last_ranks, percentile) for percentile in ROBUST_PERCENTILES)
    return _scale(values, *_limits(low, high, known))


def _possible_values(dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return all values of an integer type of 8 or 16 bits, in the order of ``_histogram`` and ``_look_up``."""
    bits = np.dtype(f"u{dtype.itemsize}")
    return np.arange(1 << 8 * bits.itemsize, dtype=bits).view(dtype.newbyteorder("="))


def _histogram(values: NDArray[Any]) -> NDArray[np.int64]:
    """Count each of the ``_possible_values`` in an image of 8 or 16 bits, [height, width]."""
    n_possible = 1 << 8 * values.itemsize
    counts = cv2.calcHist([_bits(values)], [0], None, [n_possible], [0, n_possible])
    return np.asarray(counts.ravel(), dtype=np.int64)


def _look_up(values: NDArray[Any], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Replace the values of an image of 8 or 16 bits, [height, width], by a table of all ``_possible_values``."""
    return np.asarray(cv2.LUT(_bits(values), table), dtype=np.uint8)


def _bits(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as unsigned integers of the same bits."""
    native = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    return native.view(f"u{values.itemsize}")


def _percentile(known: NDArray[Any], last_ranks: NDArray[np.int64], percentile: float) -> float:
    """Compute what ``np.percentile`` does from ascending values and the rank of the last pixel of each."""
    if not len(known):
        return 0.0
    rank = percentile / 100 * (last_ranks[-1] - 1)
    below, above = known[np.searchsorted(last_ranks, [np.floor(rank), np.ceil(rank)], side="right")].astype(np.float64)
    return float(below + (above - below) * (rank - np.floor(rank)))


def _limits(low: float, high: float, known: NDArray[Any]) -> tuple[float, float]:
    """Check the limits of a scale; if they are equal, return those of all known values."""
    if not len(known):
        raise ImageRefused("empty", "no pixel has a finite value")
    if low == high:
        low, high = known.min(), known.max()
    if low == high:
        raise ImageRefused("empty", f"every pixel is {low:g}")
    return low, high


def _scale(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.asarray(np.rint(levels.clip(0, 255)), dtype=np.uint8)
