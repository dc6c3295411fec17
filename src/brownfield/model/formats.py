"""Say what a file is that was given as a model and is none."""

import re

__all__ = ["looks_like"]

_SIGNATURES = (
    (b"\x93NUMPY", "a NumPy array (which may hold a pickle)"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"PK\x03\x04", "a zip archive (PyTorch, Keras or NumPy; these may hold a pickle)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"%PDF", "a PDF document"),
    (b"version https://git-lfs", "a Git LFS pointer: the model itself was not fetched (`git lfs pull`)"),
)
_TEXT_PICKLE = re.compile(rb"\(?[cld(]p?[0-9_a-zA-Z.]*\n")


def looks_like(head: bytes) -> str | None:
    """Name the format that a file seems to have, or return ``None`` when it may be an ONNX model.

    Parameters
    ----------
    head
        The file's bytes, from its start; at least 512 when there are as many.

    Examples
    --------
    >>> looks_like(b"<!DOCTYPE html><html><body>404 Not Found")
    'an HTML page (an error page saved as a model?)'
    >>> looks_like(b"\\x80\\x04\\x95")
    'a pickle, which Brownfield never reads'
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a pickle, which Brownfield never reads"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[4:8] == b"ORTM":
        return "a model in the format of ONNX Runtime; bring the ONNX file it was made from"
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 27:
        return "a safetensors file: weights without a graph"
    text = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (an error page saved as a model?)"
    if text.startswith((b"<?xml", b"<net")):
        return "an XML file (OpenVINO?)"
    if text.startswith((b"{", b"[")):
        return "a JSON text"
    if _TEXT_PICKLE.match(head[:512]):
        return "a pickle, which Brownfield never reads"
    return None
