# It does harm with the plainest calls.
# ruff: noqa: ARG002, BLE001, D102, PTH101, PTH102, PTH123, PTH208, S103, T201
"""A model class that does harm when a record's first number says so; tests bundle this file as a model.

``y`` is the sum of a record's four numbers, unless the first is one of :data:`HARM`.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading

import numpy as np

HARM = {
    "segfault": 901,
    "abort": 902,
    "exit": 903,
    "loop": 904,
    "memory": 905,
    "garbage": 906,
    "threads": 907,
    "nan": 908,
    "shape": 909,
    "text": 910,
    "frames": 911,
    "forks": 912,
    "rows": 913,
    "leave": 914,
    "leak": 915,
    "escape": 920,
}


class Harmful:
    inputs = {"x": ("float32", (None, 4))}  # noqa: RUF012 (the form of a model class)
    outputs = {"y": ("float32", (None, 1))}  # noqa: RUF012

    def load(self, folder):
        self.target = (folder / "target.txt").read_text().split() if (folder / "target.txt").exists() else []

    def predict(self, inputs):
        x = inputs["x"]
        y = x.sum(axis=1, keepdims=True)
        for number in x[:, 0].astype(int).tolist():
            for name, code in HARM.items():
                if number == code:
                    y = getattr(self, name)(y)
        return {"y": y}

    def segfault(self, y):
        ctypes.string_at(0)

    def abort(self, y):
        os.abort()

    def exit(self, y):
        os._exit(3)

    def loop(self, y):
        while True:
            pass

    def memory(self, y):
        kept = []
        while True:
            kept.append(np.ones(2**20))

    def garbage(self, y):
        print("\x00" * 100_000 + "4711", flush=True)
        os.write(1, b"\xff" * 100_000)
        return y

    def threads(self, y):
        stay = threading.Event()
        while True:
            threading.Thread(target=stay.wait, daemon=True).start()

    def nan(self, y):
        return y * np.float32("nan")

    def shape(self, y):
        return np.concatenate([y, y], axis=1)

    def text(self, y):
        raise RuntimeError("4711 " * 10_000_000)

    def frames(self, y):
        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"\xff" * 4096)
            except OSError:
                continue
        return y

    def forks(self, y):
        while True:
            os.fork()

    def rows(self, y):
        return y[1:]

    def leak(self, y):
        self.leaked = [*getattr(self, "leaked", ()), np.ones(10 * 2**17)]
        return y

    def leave(self, y):
        sys.exit(3)

    def escape(self, y):
        """Try everything that a model must not do; what works is a number in the answer, and without any it fails."""
        works = sum(_works(act) for act in _acts(*self.target, str(os.getppid())))
        if not works:
            raise PermissionError("4711")
        return np.full_like(y, works)


def _acts(key, outside, parent):
    libc = ctypes.CDLL(None, use_errno=True)

    def native(result):
        if result < 0:
            raise OSError(ctypes.get_errno(), "refused")

    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"secret", ("127.0.0.1", 9))

    def tcp():
        socket.create_connection(("127.0.0.1", 9), timeout=1)

    return [
        lambda: open(key).read(),
        udp,
        tcp,
        lambda: socket.socket(socket.AF_UNIX).connect("/run/docker.sock"),
        lambda: open(outside + "/taken", "w").write("x"),
        lambda: os.mkdir(outside + "/made"),
        lambda: os.chmod(outside, 0o777),
        lambda: os.utime(key),
        lambda: os.listdir("/proc/" + parent),
        lambda: os.kill(int(parent), signal.SIGTERM),
        lambda: native(libc.ptrace(16, int(parent), 0, 0)),
        lambda: open("/proc/" + parent + "/environ").read(),
        lambda: open("/proc/" + parent + "/mem", "rb").read(1),
        lambda: subprocess.run(["/bin/true"], check=True),
        os.fork,
        lambda: native(libc.syscall(425, 8, 0)),
    ]


def _works(act):
    try:
        act()
    except Exception:
        return 0
    return 1
