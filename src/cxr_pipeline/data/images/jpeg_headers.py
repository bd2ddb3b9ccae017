"""Size of a JPEG image that is embedded in another file."""

import struct

_JPEG_2000 = b"\xff\x4f\xff\x51"
# Start of frame: all processes of JPEG (ITU-T T.81, table B.1) and JPEG-LS (ITU-T T.87, annex C).
_STARTS_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def coded_size(stream: bytes) -> tuple[int, int]:
    """Read width and height from a JPEG, JPEG-LS or JPEG 2000 stream (ITU-T T.800, A.5.1) without decoding it.

    Raises:
        ValueError: the stream does not contain its size.
    """
    try:
        start = stream.find(_JPEG_2000, 0, 1024)
        if start >= 0:
            right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
            return right - left, bottom - top
        position = 2
        while stream[position] == 0xFF:
            if stream[position + 1] in _STARTS_OF_FRAME:
                height, width = struct.unpack_from(">2H", stream, position + 5)
                return width, height
            fill_byte = stream[position + 1] == 0xFF
            position += 1 if fill_byte else 2 + int.from_bytes(stream[position + 2 : position + 4])
    except (IndexError, struct.error) as error:
        raise ValueError("truncated stream without an image size") from error
    raise ValueError("stream without an image size")
