"""The bound on how long idle CPUs take to wake is asked for while it is held, and is gone with its holder."""

import os
import sys

import pytest

from brownfield.wake import DEVICE, WakeBound
from harness.waiting import until

_NOTHING_US = 2_000_000_000


def asked(path):
    """What is written there, in microseconds."""
    return int.from_bytes(path.read_bytes(), sys.byteorder)


def test_it_is_asked_for_once_and_taken_back(tmp_path):
    """Held twice it is written once; released, the kernel's word for nothing stands there."""
    path = tmp_path / "device"
    path.write_bytes(b"")
    bound = WakeBound(5, path)
    assert path.read_bytes() == b""
    bound.hold()
    assert (asked(path), bound.holds) == (5, True)
    path.write_bytes(b"")
    bound.hold()
    assert path.read_bytes() == b""
    bound.release()
    assert (asked(path), bound.holds) == (_NOTHING_US, False)
    bound.close()


def test_a_host_without_the_device_is_told(tmp_path):
    """Whoever asks sees the operating system's error."""
    with pytest.raises(FileNotFoundError):
        WakeBound(0, tmp_path / "none")


def test_the_kernel_takes_it_as_meant():
    """Linux shows the shortest wake that anybody asks for, as this asks for it and no longer."""
    if not os.access(DEVICE, os.W_OK):
        with pytest.raises(OSError, match=str(DEVICE)):
            WakeBound(0)
        return
    file = os.open(DEVICE, os.O_RDONLY)
    try:
        bound = WakeBound(0)
        bound.hold()
        assert int.from_bytes(os.pread(file, 4, 0), sys.byteorder) == 0
        bound.close()
        until(lambda: int.from_bytes(os.pread(file, 4, 0), sys.byteorder) > 0)  # others may ask just now
    finally:
        os.close(file)
