"""From the stored values of a DICOM image to the grey levels to display: rescale, LUT, window, padding.

Sections are those of part 3 of the DICOM standard, https://www.dicomstandard.org/current.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.images.dicom_headers import number, text, value
from cxr_pipeline.data.images.intensity import stretch

if TYPE_CHECKING:
    from pydicom import Dataset

WINDOWING_TAGS = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept"),
    *("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
)

_BIG_ENDIAN = "1.2.840.10008.1.2.2"


def to_grey_levels(pixels: NDArray[Any], header: "Dataset") -> NDArray[np.uint8]:
    """Convert stored pixels, integers [height, width], to uint8 grey levels as described for ``dicom.decode_dicom``.

    Raises:
        ImageRefused: ``empty``, or ``unreadable`` if the modality LUT or rescale cannot be applied.
    """
    # A lookup table of all possible stored values is smaller than the image.
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
    except Exception:  # the elements may contain anything
        raise ImageRefused("unreadable", "a modality LUT or rescale that cannot be applied") from None
    if not np.isfinite(scaled).all():
        raise ImageRefused("unreadable", "a rescale to values that are not finite")
    if scaled.min() == scaled.max():
        raise ImageRefused("empty", "the modality LUT or rescale makes all values equal")
    return scaled


def _apply_voi(values: NDArray[np.float64], header: "Dataset") -> NDArray[np.float64] | None:
    """Map values to 0 to 1 by the first VOI LUT or window; return None if neither can be applied."""
    from pydicom.pixels.processing import apply_windowing

    try:
        if header.get("VOILUTSequence"):
            lut, first = _read_lut(header.VOILUTSequence[0], header)
            index = np.clip(np.rint(values) - first, 0, len(lut) - 1).astype(np.intp)
            return _to_unit(lut[index], lut.min(), lut.max())
        if header.get("WindowWidth") is None or header.get("WindowCenter") is None:
            return None
        with np.errstate(over="ignore"):
            dark, bright = apply_windowing(np.array([-1e12, 1e12]), header)
            return _to_unit(apply_windowing(values, header), dark, bright)
    except MemoryError:
        raise
    except Exception:  # the elements may contain anything
        return None


def _read_lut(item: "Dataset", header: "Dataset") -> tuple[NDArray[np.float64], int]:
    """Return the entries of a LUT and the stored value that the first entry maps (C.11.2.1.1).

    pydicom's own function fails for 8 bits and more than 256 entries.
    """
    n_entries, first, _ = item.LUTDescriptor
    n_entries = n_entries or 65536
    data = item.LUTData
    if isinstance(data, bytes):
        order = ">" if header.file_meta.TransferSyntaxUID == _BIG_ENDIAN else "<"
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * n_entries else f"{order}u2")
    return np.asarray(data, dtype=np.float64)[:n_entries], first


def _to_unit(values: NDArray[np.float64], dark: float, bright: float) -> NDArray[np.float64]:
    unit = (values - dark) / (bright - dark)
    if not np.isfinite(unit).all():
        raise ValueError(f"expected two different finite limits. Received: {dark}, {bright}")
    return unit.clip(0, 1)


def _padding(pixels: NDArray[Any], header: "Dataset") -> NDArray[np.bool_]:
    """Return which pixels are padding (C.7.5.1.1.2)."""
    first, last = value(header, "PixelPaddingValue"), value(header, "PixelPaddingRangeLimit")
    if not isinstance(first, int):
        return np.zeros(pixels.shape, dtype=np.bool_)
    # Some files write the bits of a signed value as an unsigned one.
    low, high = np.sort(np.array([first, last if isinstance(last, int) else first]).astype(pixels.dtype))
    return np.asarray((pixels >= low) & (pixels <= high))
