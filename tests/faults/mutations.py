"""Random changes of the content of files."""

import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Takes the content to change, and others from which parts may be taken.
Change = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 20_000, 0x7FFFFFFF, 0xFFFFFFFF, 2**33, 2**63 - 1)
CELLS = (
    *("", " ", "nan", "inf", "-1", "0", "1", "1e309", "99999999999999999999", "-058Y", "perhaps", "None", "true", "*"),
    *("../../etc/passwd", "/etc/passwd", "..", "a/1.png", "C:\\x", "=1+1"),
    *("a\nb", '"', 'a"b', "\x00", "\ufeff", "%s{x}"),
    *("é" * 300, "x" * 70_000, "No Finding|Mass", "['Mass', 'Edema']", "\u202e", "Müller^Jörg", "|", "," * 3000),
)
VALUES = (None, True, -1, 0, 0.5, 1e308, 10**30, float("nan"), "", "x", "1", [], {}, [1, "a"], {"a": 1}, "\x00", "/etc")
CODECS = ("utf-16", "utf-32", "utf-8-sig", "cp1252", "cp037", "shift_jis")
SEPARATORS = ((",", ";"), (",", "\t"), (",", ", "), (",", ",,"), ("\n", "\r"), ("\n", "\n\n"))


def change_bytes(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change bits or numbers, or overwrite, cut, remove, insert, repeat or splice a part."""
    n = len(content)
    # Half of the changes concern the header, where they have the largest effect.
    place = rng.randrange(min(n, 600) if rng.random() < 0.5 else n)
    length = rng.choice((1, 4, 64, 1000))
    before, part, after = content[:place], content[place : place + length], content[place + length :]
    kind = rng.choice(("bits", "bits", "number", "number", "overwrite", "cut", "remove", "insert", "repeat", "splice"))
    if kind == "bits":
        data = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(n)] ^= 1 << rng.randrange(8)
        return bytes(data)
    if kind == "number":
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice(NUMBERS) % 256**width
        return before + number.to_bytes(width, rng.choice(("little", "big"))) + content[place + width :]
    if kind == "splice":
        other = rng.choice(others)
        start = rng.randrange(len(other))
        return before + other[start : start + rng.choice((length, len(other)))] + after
    parts = {"overwrite": rng.randbytes(len(part)), "remove": b"", "repeat": part * rng.choice((2, 50))}
    return before if kind == "cut" else before + parts.get(kind, rng.randbytes(length) + part) + after


def change_png(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change bytes, and correct the checksums of the chunks, so that decoders read what is in them."""
    place, data = 8, bytearray(change_bytes(rng, content, others))
    while place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if end + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(data)


def change_table(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change cells, rows, columns, separators, the encoding or bytes of a CSV file."""
    rows = [line.split(",") for line in content.decode().split("\n")]
    kind = rng.choice(("cells", "cells", "header", "row", "repeat", "column", "codec", "separator", "bytes"))
    if kind == "bytes":
        return change_bytes(rng, content, others)
    if kind in ("cells", "header"):
        for _ in range(rng.choice((1, 1, 5))):
            row = rows[0] if kind == "header" else rng.choice(rows)
            row[rng.randrange(len(row))] = rng.choice((*CELLS, *rows[0]))
    elif kind == "row":
        rows.remove(rng.choice(rows))
    elif kind == "repeat":
        rows.insert(rng.randrange(len(rows)), list(rng.choice(rows)))
    elif kind == "column":
        column, copies = rng.randrange(len(rows[0])), rng.choice((0, 2))
        rows = [row[:column] + row[column : column + 1] * copies + row[column + 1 :] for row in rows]
    text = "\n".join(map(",".join, rows))
    if kind == "separator":
        text = text.replace(*rng.choice(SEPARATORS))
    return text.replace("M", "Ü").encode(rng.choice(CODECS), "replace") if kind == "codec" else text.encode()


def in_gzip(change: Change) -> Change:
    """Return a change of the content of a gzip file."""

    def change_inside(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
        return gzip.compress(change(rng, gzip.decompress(content), others), 1)

    return change_inside


def change_json(rng: random.Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change, remove, rename or copy values of a JSON document, which is also YAML, or bytes of it."""
    if rng.random() < 0.3:
        return change_bytes(rng, content, others)
    root = {"": json.loads(content)}
    for _ in range(rng.choice((1, 1, 3))):
        parent, key = rng.choice(list(_places(root)))
        kind = rng.choice(("value", "value", "copy", "rename", "remove"))
        if kind == "value" or parent is root:
            parent[key] = rng.choice(VALUES)
        elif kind == "copy":
            other, other_key = rng.choice(list(_places(root)))
            parent[key] = json.loads(json.dumps(other[other_key]))
        else:
            value = parent.pop(key)
            if kind == "rename" and isinstance(parent, dict):
                parent[rng.choice((*CELLS, key.swapcase(), f"{key}s"))] = value
    return json.dumps(root[""], ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the container and the key of each value below a node."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)
