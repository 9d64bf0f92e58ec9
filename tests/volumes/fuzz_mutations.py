"""Damage: of bytes, of numbers in them, of JSON, and of what is inside of gzip and zip."""

import copy
import gzip
import io
import json
import random
import re
import zipfile

NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**63 - 1,
    2**63,
    2**64 - 1,
)
WORDS = (
    "",
    "0",
    "-1",
    "99999999999",
    "1e308",
    "nan",
    "inf",
    "../../x",
    "/etc/passwd",
    "zyx",
    "\u00e9",
    "9" * 5000,
    "{",
    "A",
)
ODD = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    2**31,
    2**40,
    2**63,
    10**30,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [1, 2, 3],
)
_DIGITS = re.compile(rb"-?\d+")


def random_of(kind, number):
    """The chance that decides one mutation, whatever came before."""
    return random.Random(f"{kind} {number}")


def mutate(chance, data, files):
    """The bytes damaged: once, or up to three times."""
    for _ in range(chance.choice((1, 1, 2, 3))):
        data = _inside(chance, data, files)
    return data


def _inside(chance, data, files):
    try:
        if data[:1] == b"{" and chance.random() < 0.7:
            return _json(chance, data)
        if data[:2] == b"\x1f\x8b" and chance.random() < 0.6:
            return gzip.compress(_bytes(chance, gzip.decompress(data), files), 1)
        if data[:4] == b"PK\x03\x04" and chance.random() < 0.6:
            return _zip(chance, data, files)
    except Exception:
        pass  # it is damaged already
    return _bytes(chance, data, files)


def _bytes(chance, data, files):
    data = bytearray(data)
    if not data:
        return bytes(chance.randrange(256) for _ in range(chance.randint(1, 40)))
    near = len(data) if chance.random() < 0.4 else min(len(data), 1100)  # most headers are at the beginning
    at = chance.randrange(near)
    kind = chance.choice(("bits", "bits", "number", "number", "digits", "digits", "cut", "insert", "remove", "other"))
    if kind == "bits":
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(near)] ^= 1 << chance.randrange(8)
    elif kind == "number":
        size = chance.choice((1, 2, 4, 8))
        at -= at % size
        value = chance.choice(NUMBERS) % 2 ** (8 * size)
        data[at : at + size] = value.to_bytes(size, chance.choice(("little", "big")))
    elif kind == "digits" and (found := list(_DIGITS.finditer(data[:4000]))):
        one = chance.choice(found)
        data[one.start() : one.end()] = chance.choice((*WORDS, *map(str, NUMBERS))).encode()
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = chance.choice(
            (bytes(chance.randint(1, 9)), data[at : at + 50], chance.randbytes(20), b"\n", b"\0")
        )
    elif kind == "remove":
        del data[at : at + chance.choice((1, 4, 40))]
    elif kind == "other":
        data[at:] = chance.choice(sorted(files.values()))[at:]
    return bytes(data)


def _zip(chance, data, files):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen, made = chance.choice(sorted(members)), io.BytesIO()
    members[chosen] = _bytes(chance, members[chosen], files)
    method = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(made, "w", method if chance.random() < 0.3 else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def _places(tree, path=()):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def _json(chance, data):
    tree = json.loads(data)
    places = list(_places(tree))
    if not places:
        return data
    *way, last = chance.choice(places)
    group = tree
    for key in way:
        group = group[key]
    kind = chance.choice(("value", "value", "value", "word", "drop", "twice", "deep", "other place"))
    if kind == "value":
        group[last] = copy.deepcopy(chance.choice(ODD))
    elif kind == "word":
        group[last] = chance.choice(WORDS)
    elif kind == "drop":
        del group[last]
    elif kind == "twice":
        group[last] = [copy.deepcopy(group[last])] * chance.choice((2, 9))
    elif kind == "other place":
        *way, other = chance.choice(places)
        here = tree
        for key in way:
            here = here[key]
        group[last] = copy.deepcopy(here[other])
    else:
        group[last] = 0
        depth = chance.choice((50, 1000, 100_000))
        return json.dumps(tree).encode().replace(b"0", b"[" * depth + b"]" * depth, 1)
    return json.dumps(tree).encode()
