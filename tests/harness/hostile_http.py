"""Hostile requests by the thousand, from one seed: JSON, V2, heads, framing and plain bytes, cut at random."""

import json
import random
import struct

__all__ = ["MARK", "hostile"]

MARK = 4_711_000
"""The sum that a smuggled request would be answered with."""

_ATOMS = (
    *("null", "true", "[]", "{}", '""', "NaN", "-Infinity", "1e999", "-1e999", "1e-999", "0x1", "01", "+1", "1.", ".5"),
    *(
        "9" * 400,
        "-" + "9" * 25,
        "9007199254740993",
        '"\\ud800"',
        '"\\u0000"',
        '"a\x00b"',
        "[" * 300,
        "[" * 300 + "]" * 300,
    ),
    *(
        '"' + "x" * 5000 + '"',
        '{"x": 1, "x": 2}',
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[[1, 2, 3, 4]]",
        '[1, 2, "3", 4]',
        "1 2",
    ),
)
_NUMBERS = (-1, 0, 1, 3, 2**31, 2**63, 2**64, 10**30, -(2**70), 1.5, "4", None, [], True)
_DATATYPES = ("FP32", "FP64", "FP16", "BF16", "BYTES", "BOOL", "INT8", "UINT64", "OBJECT", "", "fp32", 7, None)
_FIELDS = (
    b"Brownfield-Timeout-Ms: %d",
    b"Brownfield-Timeout-Ms: nan",
    b"Brownfield-Priority: %d",
    b"Brownfield-Priority: shadow",
    b"Cache-Control: no-store",
    b"Inference-Header-Content-Length: %d",
    b"Content-Encoding: gzip",
    b"Content-Type: text/%d",
    b"Expect: 100-continue",
    b"Expect: %d",
    b"Connection: close",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
    b"X-%d: a\r\n folded",
    b"Host: another",
    b"Range: bytes=%d-",
    b"Cookie: \xff\xfe%d",
)
_FRAMINGS = (
    (b"Content-Length: %(whole)d", b"Transfer-Encoding: chunked"),
    (b"Transfer-Encoding: chunked", b"Content-Length: %(whole)d"),
    (b"Transfer-Encoding: xchunked", b"Content-Length: 5"),
    (b"Transfer-Encoding:\x0bchunked", b"Content-Length: 5"),
    (b"Transfer-Encoding: chunked, identity", b"Content-Length: 5"),
    (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    (b"Content-Length: 5", b"Content-Length: %(whole)d"),
    (b"Content-Length: 5, %(whole)d",),
    (b"Content-Length: +5",),
    (b"Content-Length : 5",),
    (b"Transfer-Encoding:\r\n chunked", b"Content-Length: 5"),
)


def hostile(seed: int) -> tuple[str, list[bytes]]:
    """Give the kind and the pieces of one hostile request; equal for equal seeds."""
    draw = random.Random(seed)  # noqa: S311 (a test's draw)
    kind = draw.choice(("named", "V2", "head", "framing", "bytes", "bytes"))
    data = {"named": _named, "V2": _v2, "head": _head, "framing": _framing, "bytes": _bytes}[kind](draw)
    return kind, _cut(draw, data)


def _post(path: bytes, body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"Host: localhost", *fields, b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _named(draw: random.Random) -> bytes:
    parts = [
        draw.choice(_ATOMS) if draw.random() < 0.4 else str(draw.randrange(9)) for _ in range(draw.choice((3, 4, 4, 5)))
    ]
    value = draw.choice(_ATOMS) if draw.random() < 0.3 else f"[{', '.join(parts)}]"
    key = draw.choice(('"x"', '"x"', '"x"', '"y"', '"\\u0078"', "x", '""'))
    text = draw.choice(
        (f"{{{key}: {value}}}", f"[{{{key}: {value}}}]", value, f"{{{key}: {value}", f"{{{key}: {value}}}}}")
    )
    return _post(b"/v1/risk/predict", text.encode("utf-8", "surrogatepass"))


def _v2(draw: random.Random) -> bytes:
    tensor = {
        "name": draw.choice(("x", "x", "x", "y", "", None)),
        "shape": draw.choice(([1, 4], [1, 4], [4], [draw.choice(_NUMBERS), 4], [1, draw.choice(_NUMBERS)], "1", [])),
        "datatype": draw.choice(_DATATYPES) if draw.random() < 0.5 else "FP32",
        "data": draw.choice(([1, 2, 3, 4], [[1, 2, 3, 4]], [1, 2, 3], [draw.choice(_NUMBERS)] * 4, {}, "AAAA")),
    }
    binary = b""
    if draw.random() < 0.4:
        binary = struct.pack("<4f", 1, 2, 3, float("nan"))[: draw.choice((16, 16, 15, 0))]
        tensor.pop("data")
        tensor["parameters"] = {"binary_data_size": draw.choice((16, len(binary), *_NUMBERS))}
    whole = {"inputs": [tensor] * draw.choice((1, 1, 1, 2, 0)), "id": draw.choice(("a", "", 7, "x" * 3000))}
    if draw.random() < 0.3:
        whole["outputs"] = [{"name": draw.choice(("y", "z", "")), "parameters": {"binary_data": draw.choice(_NUMBERS)}}]
    if draw.random() < 0.3:
        whole["parameters"] = {draw.choice(("timeout", "priority", "sequence_id")): draw.choice(_NUMBERS)}
    text = json.dumps(whole).encode()
    fields = (b"Inference-Header-Content-Length: %d" % (len(text) + draw.choice((0, 0, 1, -1, 99))),) if binary else ()
    return _post(b"/v2/models/risk/infer", text + binary, *fields)


def _head(draw: random.Random) -> bytes:
    fields = [draw.choice(_FIELDS) for _ in range(draw.randrange(1, 6))]
    filled = [each % draw.choice((0, 7, 2**40)) if b"%d" in each else each for each in fields]
    path = draw.choice(
        (
            b"/v1/risk/predict",
            b"/v2/models/risk/infer",
            b"/v1/%72isk/predict",
            b"//v1/risk/predict",
            b"*",
            b"/" + b"a" * 9000,
        )
    )
    return _post(path, b'{"x": [1, 2, 3, 4]}', *filled)


def _framing(draw: random.Random) -> bytes:
    """Give a length that can be read in two ways, and behind it what one of them would take for a request."""
    smuggled = _post(b"/v1/risk/predict", b'{"x": [%d, 0, 0, 0]}' % MARK)
    body = b"0\r\n\r\n" + smuggled
    lines = [each % {b"whole": len(body)} if b"%(" in each else each for each in draw.choice(_FRAMINGS)]
    return b"\r\n".join([b"POST /v1/risk/predict HTTP/1.1", b"Host: localhost", *lines]) + b"\r\n\r\n" + body


def _bytes(draw: random.Random) -> bytes:
    """Give a good or a bad request with some of its bytes changed, left out or doubled."""
    whole = bytearray(draw.choice((_named, _v2, _head))(draw))
    for _ in range(draw.randrange(1, 8)):
        at = draw.randrange(len(whole) + 1)
        put = draw.choice((b"", b"\r\n", b"\n", b"\x00", b":", draw.randbytes(draw.randrange(1, 4))))
        whole[at : at + draw.randrange(4)] = put
    return bytes(whole)


def _cut(draw: random.Random, data: bytes) -> list[bytes]:
    """Cut nowhere, anywhere, or at every byte."""
    how = draw.random()
    if how < 0.5 or len(data) < 2:
        return [data]
    if how > 0.95 and len(data) < 400:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(draw.randrange(len(data)) for _ in range(draw.randrange(1, 4)))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]
