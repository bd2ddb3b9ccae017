"""Random changes of the content of files."""

import json
import random
import zlib
from collections.abc import Callable, Sequence

NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 20_000, 0x7FFFFFFF, 0xFFFFFFFF, 2**33, 2**63 - 1)
CELLS = (
    *("", " ", "nan", "inf", "-1", "0", "1", "1e309", "99999999999999999999", "-058Y", "perhaps", "None", "true", "*"),
    *("../../etc/passwd", "/etc/passwd", "..", "a/1.png", "C:\\x", "=1+1", "a\nb", '"', "\x00", "\ufeff", "%s{x}", "|"),
    *("é" * 300, "x" * 70_000, "No Finding|Mass", "['Mass', 'Edema']", "\u202e", "Müller^Jörg"),
)
VALUES = (None, True, -1, 0, 0.5, 1e308, 10**30, float("nan"), "", "x", "1", [], {}, [1, "a"], {"a": 1}, "\x00", "/etc")
CODECS = ("utf-16", "utf-32", "utf-8-sig", "cp1252", "cp037", "shift_jis")


def change_bytes(rng: random.Random, content: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Return the name of a change, and the changed content."""
    data, n = bytearray(content), len(content)
    # Half of the changes concern the header, where they have the largest effect.
    place = rng.randrange(min(n, 600) if rng.random() < 0.5 else n)
    length = rng.choice((1, 4, 64, 1000))
    name = rng.choice(
        ("bits", "bits", "bytes", "number", "number", "cut", "delete", "insert", "repeat", "swap", "splice")
    )
    if name == "bits":
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(n)] ^= 1 << rng.randrange(8)
    elif name == "bytes":
        data[place : place + length] = rng.randbytes(min(length, n - place))
    elif name == "number":
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice(NUMBERS) % 256**width
        data[place : place + width] = value.to_bytes(width, rng.choice(("little", "big")))
    elif name == "cut":
        del data[rng.randrange(n) :]
    elif name == "delete":
        del data[place : place + length]
    elif name == "insert":
        data[place:place] = rng.randbytes(length)
    elif name == "repeat":
        data[place:place] = data[place : place + length] * rng.choice((1, 1, 50))
    elif name == "swap":
        data[place : place + 2 * length] = data[place + length : place + 2 * length] + data[place : place + length]
    else:
        other = rng.choice(others)
        start = rng.randrange(len(other))
        data[place : place + length] = other[start : start + rng.choice((length, len(other)))]
    return name, bytes(data)


def change_png(rng: random.Random, content: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Change bytes, and mostly correct the checksums of the chunks, so that decoders read what is in them."""
    name, changed = change_bytes(rng, content, others)
    place, data = 8, bytearray(changed)
    while rng.random() < 0.99 and place + 12 <= len(data):
        end = place + 8 + int.from_bytes(data[place : place + 4])
        if end + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[place + 4 : end]).to_bytes(4)
        place = end + 4
    return name, bytes(data)


def change_table(rng: random.Random, content: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Change cells, rows, columns, separators or the encoding of a CSV file."""
    rows = [line.split(",") for line in content.decode("utf-8").split("\n")]
    name = rng.choice(
        ("cells", "cells", "row", "repeat", "column", "header", "quote", "long", "codec", "separator", "bytes")
    )
    row = rng.choice(rows)
    column = rng.randrange(len(row))
    if name == "bytes":
        return change_bytes(rng, content, others)
    if name == "cells":
        for _ in range(rng.choice((1, 1, 5))):
            row = rng.choice(rows)
            row[rng.randrange(len(row))] = rng.choice(CELLS)
    elif name == "row":
        rows.remove(row)
    elif name == "repeat":
        rows.insert(rng.randrange(len(rows)), list(row))
    elif name == "column":
        move = rng.choice(
            (lambda r: r.pop(column), lambda r: r.append(r[column]), lambda r: r.insert(0, r.pop(column)))
        )
        for each in rows:
            if column < len(each):
                move(each)
    elif name == "header":
        rows[0][rng.randrange(len(rows[0]))] = rng.choice(rows[0] + list(CELLS))
    elif name == "quote":
        row[column] = rng.choice(('"', '"a', 'a"', '"a"b"', "'a")) + row[column]
    elif name == "long":
        rows.insert(rng.randrange(len(rows) + 1), ["1"] * rng.choice((0, 3, 3000)))
    text = "\n".join(map(",".join, rows))
    if name == "codec":
        return name, text.replace("M", "Ü").encode(rng.choice(CODECS), "replace")
    if name == "separator":
        text = text.replace(
            *rng.choice(((",", ";"), (",", "\t"), (",", ", "), (",", ",,"), ("\n", "\r"), ("\n", "\n\n")))
        )
    return name, text.encode()


def change_json(rng: random.Random, content: bytes, others: Sequence[bytes]) -> tuple[str, bytes]:
    """Change, remove, rename or exchange values of a JSON document, which is also YAML."""
    if rng.random() < 0.3:
        return change_bytes(rng, content, others)
    document = json.loads(content)
    if rng.random() < 0.05:
        return "root", json.dumps(rng.choice(VALUES)).encode()
    name = rng.choice(("value", "value", "remove", "rename", "exchange"))
    for _ in range(rng.choice((1, 1, 3))):
        parent, key = rng.choice(list(_places(document)))
        if name == "value":
            parent[key] = rng.choice(VALUES)
        elif name == "remove":
            del parent[key]
        elif name == "rename" and isinstance(parent, dict):
            parent[rng.choice((*CELLS, key.swapcase(), f"{key}s"))] = parent.pop(key)
        else:
            other_parent, other_key = rng.choice(list(_places(document)))
            parent[key] = json.loads(json.dumps(other_parent[other_key]))
        if not document:
            break
    return name, json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace")


def _places(node):
    """Yield the container and the key of each value below a node."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


Change = Callable[[random.Random, bytes, Sequence[bytes]], tuple[str, bytes]]
