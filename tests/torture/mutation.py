"""Hostile bytes, made from right ones: the same seed of the generator gives the same bytes.

What has a structure (JSON) is also altered in its structure, so that not everything fails at the first
brace. Nothing here knows who reads it.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

LONGEST = 1 << 18

# What has broken parsers: control characters, other spellings of numbers and names, ways out of a
# folder, things that are small here and large there.
_TOKENS = tuple(
    token.encode("utf-8", "surrogatepass")
    for token in (
        *(
            "\0",
            "\r",
            "\r\n",
            "\n\n",
            "\t",
            "\x1b[2J",
            "\u2028",
            "\ufeff",
            "\ud800",
            "\x85",
            "é",
            "\U0001f511",
        ),
        *(
            "../",
            "/",
            "//",
            "..",
            "-",
            "--",
            "~",
            "$HOME",
            "$(id)",
            "`id`",
            "%00",
            "%0a",
            "%2e%2e",
            "::",
            "@",
        ),
        *(
            "null",
            "NaN",
            "Infinity",
            "-Infinity",
            "1e999",
            "-0",
            "0x1",
            "0o7",
            "1_000",
            "12:30:45",
            "NO",
            "~",
        ),
        *(
            "9" * 25,
            "9" * 5000,
            "-1",
            "18446744073709551616",
            "true",
            "{}",
            "[]",
            '""',
            '"\\ud800"',
            "\\u0000",
        ),
        *(
            "&a ",
            "*a",
            "<<: *a",
            "!!python/name:os.system ",
            "!!binary ",
            "---\n",
            "...\n",
            "? ",
            "| \n",
            "#",
        ),
        *(
            "sha256:" + "0" * 64,
            "sha512:" + "0" * 128,
            "A" * 300,
            "=" * 70,
            "ext::sh -c id",
            "file:///etc/passwd",
        ),
        *("[" * 3000, '{"a":' * 3000, "(" * 3000, "a." * 3000, "a/" * 3000, '"' * 100, "\\" * 99, "{{" * 50),
        *(
            '"access":[{"type":"repository"}]',
            "realm=",
            ', Bearer realm="',
            '[submodule "x"]\n',
            "\turl = -u\n",
        ),
    )
)
_VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1 << 64,
        10**400,
        0.5,
        float("inf"),
        float("nan"),
        "",
        "a",
        "\0",
        "\ud800",
        "\n",
    ),
    *([], {}, [[]], [None], {"": None}, "sha256:" + "f" * 64, "../../x", "A" * 5000, "=", "AAAA", "٣", "²"),
    [1] * 3000,
)


def mutated(seed: bytes, other: bytes, random: Random) -> bytes:
    """Hostile bytes made from `seed`, with parts of `other`."""
    content = seed
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        document = _document(content) if random.random() < 0.5 else None
        try:
            content = _bytes(content, other, random) if document is None else _restructured(document, random)
        except RecursionError:
            # Put into each other often enough, it is too deep to be written.
            break
    return content[:LONGEST]


def _document(content: bytes) -> Any:
    if content[:1] not in b"{[" or not content:
        return None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _restructured(document: Any, random: Random) -> bytes:
    """The document with one of its values, however deep, replaced, moved, doubled or gone."""
    places: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting and len(places) < 5000:
        one = waiting.pop()
        inside = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        for key, value in inside:
            places.append((one, key))
            waiting.append(value)
    if not places:
        return json.dumps(random.choice(_VALUES)).encode()
    holder, key = random.choice(places)
    kind = random.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        from_holder, from_key = random.choice(places)
        # Through its text: a value inside of itself could not be written.
        holder[key] = json.loads(json.dumps(from_holder[from_key]))
    elif kind == 2 and isinstance(holder, dict):
        holder[str(random.choice(_VALUES))[:50]] = holder.pop(key)
    elif kind == 3 and isinstance(holder[key], str):
        holder[key] = _bytes(holder[key].encode("utf-8", "surrogatepass"), b"", random).decode(
            "utf-8", "surrogateescape"
        )
    elif kind == 4:
        for _ in range(random.choice((1, 70, 900))):
            holder[key] = [holder[key]] if random.random() < 0.5 else {"a": holder[key]}
    else:
        holder[key] = random.choice(_VALUES)
    return json.dumps(document).encode()


def _bytes(content: bytes, other: bytes, random: Random) -> bytes:
    start = random.randint(0, len(content))
    end = min(len(content), start + random.choice((0, 1, 2, 4, 16, 64, 1024)))
    piece = content[start:end]
    kind = random.randrange(9)
    if kind == 0:
        piece = b""
    elif kind == 1:
        piece = bytes(byte ^ (1 << random.randrange(8)) for byte in piece[:1]) + piece[1:]
    elif kind == 2:
        piece = piece * random.choice((2, 3, 50))
    elif kind == 3:
        piece = random.randbytes(len(piece) or 3)
    elif kind == 4 and other:
        begin = random.randrange(len(other))
        piece = other[begin : begin + random.choice((4, 32, 256, 4096))]
    elif kind == 5:
        return content[:start]
    elif kind == 6:
        lines = content.split(b"\n")
        place, again = random.randrange(len(lines)), random.randrange(len(lines))
        lines.insert(place, lines[again])
        return b"\n".join(lines)
    elif kind == 7:
        lines = content.split(b"\n")
        del lines[random.randrange(len(lines))]
        return b"\n".join(lines)
    else:
        piece = random.choice(_TOKENS) + (piece if random.random() < 0.5 else b"")
    return content[:start] + piece + content[end:]
