"""From the stored values of a DICOM image to the grey levels that it is meant to be seen with.

Sections named here are of part 3 of the DICOM standard, https://www.dicomstandard.org/current.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom_headers import number, text, value
from cxr_pipeline.data.images.intensity import stretch

if TYPE_CHECKING:
    from pydicom import Dataset

LEVEL_TAGS = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)

_BIG_ENDIAN = "1.2.840.10008.1.2.2"


def show(pixels: NDArray[Any], header: "Dataset") -> NDArray[np.uint8]:
    """Turn stored pixels into grey levels, as ``dicom.decode_dicom`` says.

    What is done to a value is worked out once for every value that can be stored, not for every pixel.

    Args:
        pixels: integers [height, width].
        header: with ``LEVEL_TAGS``.

    Returns:
        uint8 [height, width].

    Raises:
        ImageRefused: ``empty``, or ``unreadable``: the modality LUT or rescale cannot be applied.
    """
    bits = number(header, "BitsStored")
    lowest = -(1 << bits - 1) if pixels.dtype.kind == "i" else 0
    index = np.clip(pixels.astype(np.int32) - lowest, 0, (1 << bits) - 1)
    values = _apply_modality_lut(np.arange(lowest, lowest + (1 << bits)), header)
    padding = _padding(pixels, header)
    table = _apply_voi(values, header)
    if table is None and bits <= 8:
        table = _to_unit(values, values.min(), values.max())
    if table is not None:
        grey = np.rint(table * 255).astype(np.uint8)[index]
    else:
        grey = stretch(np.where(padding, np.nan, values[index]))
    if text(header, "PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
    grey[padding] = 0
    return np.asarray(grey, dtype=np.uint8)


def _apply_modality_lut(values: NDArray[Any], header: "Dataset") -> NDArray[np.float64]:
    from pydicom.pixels.processing import apply_modality_lut

    try:
        scaled = np.asarray(apply_modality_lut(values, header), dtype=np.float64)
    except Exception:  # the elements may hold anything
        raise ImageRefused("unreadable", "a modality LUT or rescale that cannot be applied") from None
    if not np.isfinite(scaled).all():
        raise ImageRefused("unreadable", "a rescale to no finite values")
    if scaled.min() == scaled.max():
        raise ImageRefused("empty", "the modality LUT or rescale makes all values equal")
    return scaled


def _apply_voi(values: NDArray[np.float64], header: "Dataset") -> NDArray[np.float64] | None:
    """Bring values to 0 to 1 by the first VOI LUT or window; None where there is none that can be applied."""
    from pydicom.pixels.processing import apply_windowing

    try:
        if header.get("VOILUTSequence"):
            shown, lut = _look_up(values, header.VOILUTSequence[0], header)
            return _to_unit(shown, lut.min(), lut.max())
        if header.get("WindowWidth") is None or header.get("WindowCenter") is None:
            return None
        with np.errstate(over="ignore"):
            dark, bright = apply_windowing(np.array([-1e12, 1e12]), header)
            return _to_unit(apply_windowing(values, header), dark, bright)
    except MemoryError:
        raise
    except Exception:  # the elements may hold anything
        return None


def _look_up(
    values: NDArray[np.float64], item: "Dataset", header: "Dataset"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Apply a LUT (C.11.2.1.1), and give it too; pydicom's own fails for 8 bits and more than 256 entries."""
    n_entries, first, _ = item.LUTDescriptor
    data = item.LUTData
    if isinstance(data, bytes):
        order = ">" if header.file_meta.TransferSyntaxUID == _BIG_ENDIAN else "<"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * (n_entries or 65536) else f"{order}u2")
    lut = np.asarray(data, dtype=np.float64)[: n_entries or 65536]
    return lut[np.clip(np.rint(values) - first, 0, len(lut) - 1).astype(np.intp)], lut


def _to_unit(values: NDArray[np.float64], dark: float, bright: float) -> NDArray[np.float64]:
    unit = (values - dark) / (bright - dark)
    if not np.isfinite(unit).all():
        raise ValueError(f"expected two different finite limits. Received: {dark}, {bright}")
    return unit.clip(0, 1)


def _padding(pixels: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Find the pixels that are no part of the image (C.7.5.1.1.2)."""
    first = value(header, "PixelPaddingValue")
    if not isinstance(first, int):
        return np.zeros(pixels.shape, dtype=np.bool_)
    last = value(header, "PixelPaddingRangeLimit")
    # Some files write the bits of a signed value as an unsigned one.
    low, high = np.sort(np.array([first, last if isinstance(last, int) else first]).astype(pixels.dtype))
    return np.asarray((pixels >= low) & (pixels <= high))
