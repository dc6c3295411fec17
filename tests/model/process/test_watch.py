"""What a model's own code tries is told by kind; what stays within its process is not."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, signal, socket, sys
from brownfield.model.process.child import watch
from brownfield.model.process.frames import Decoder
watch.install([])
reader, writer = os.pipe()
watch.tell_through(writer)
one, other = socket.socketpair()
datagrams, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
signal.signal(signal.SIGURG, signal.SIG_IGN)
try:
    eval(sys.argv[1])
except OSError:
    pass
os.close(writer)
watch._descriptor = -1
print(json.dumps(sorted(watch._seen)))
"""


@pytest.mark.parametrize(
    ("act", "kinds"),
    [
        ("datagrams.sendto(b'x', '/nowhere')", ["network"]),
        ("datagrams.sendmsg([b'x'], [], 0, '/nowhere')", ["network"]),
        ("one.sendmsg([b'x'])", ["network"]),
        ("one.send(b'x')", []),
        ("os.kill(os.getpid(), signal.SIGURG)", []),
        ("os.kill(0, 0)", ["signal"]),
    ],
)
def test_s10_what_leaves_the_process_is_told(act, kinds) -> None:
    """S-10: a message that may carry descriptors and a signal to its group are told; bytes and its own signal not."""
    command = [sys.executable, "-c", PROGRAM, act]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == kinds
