"""Say what a file is that was given as a model and is none."""

import re

__all__ = ["A_PICKLE", "looks_like"]

A_PICKLE = "a pickle, which Brownfield never reads"

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x93NUMPY", "a NumPy array (which may hold a pickle)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (0, b"PK\x03\x04", "a zip archive (PyTorch, Keras or NumPy; these may hold a pickle)"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"%PDF", "a PDF document"),
    (0, b"version https://git-lfs", "a Git LFS pointer: the model itself was not fetched (`git lfs pull`)"),
    *((0, bytes((0x80, protocol)), A_PICKLE) for protocol in range(2, 6)),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "a model in the format of ONNX Runtime; bring the ONNX file it was made from"),
    (8, b'{"', "a safetensors file: weights without a graph"),
    (257, b"ustar", "a tar archive"),
)
"""Where a format's mark stands, the mark, and the format."""

_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"(?i)<!doctype html|<html"), "an HTML page (an error page saved as a model?)"),
    (re.compile(rb"<\?xml|<net"), "an XML file (OpenVINO?)"),
    (re.compile(rb"[{\[]"), "a JSON text"),
    (re.compile(rb"\(?[cld(]p?[0-9_a-zA-Z.]*\n"), A_PICKLE),
)
_BLANK = b"\xef\xbb\xbf \t\r\n"


def looks_like(head: bytes) -> str | None:
    r"""Name the format that a file seems to have, or return ``None`` when it may be an ONNX model.

    Parameters
    ----------
    head
        The file's bytes, from its start; at least 512 when there are as many.

    Examples
    --------
    >>> looks_like(b"<!DOCTYPE html><html><body>404 Not Found")
    'an HTML page (an error page saved as a model?)'
    >>> looks_like(b"\x80\x04\x95")
    'a pickle, which Brownfield never reads'
    """
    for offset, mark, name in _SIGNATURES:
        if head[offset : offset + len(mark)] == mark:
            return name
    text = head[:512].lstrip(_BLANK)
    return next((name for pattern, name in _TEXTS if pattern.match(text)), None)
