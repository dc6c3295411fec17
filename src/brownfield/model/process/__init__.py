"""A model in a process of its own: start it, speak to it, end it.

>>> from brownfield.model.process import ModelChannel, ModelProcess, SandboxPolicy
"""

from brownfield.confinement import SandboxPolicy
from brownfield.model.process.channel import Caller, ModelChannel, Reply, RunFailed, call
from brownfield.model.process.spawn import Hello, ModelProcess, ModelTensor, StartFailed

__all__ = [
    "Caller",
    "Hello",
    "ModelChannel",
    "ModelProcess",
    "ModelTensor",
    "Reply",
    "RunFailed",
    "SandboxPolicy",
    "StartFailed",
    "call",
]
