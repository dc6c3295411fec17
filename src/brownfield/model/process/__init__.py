"""A model in a process of its own: start it, speak to it, end it.

>>> from brownfield.model.process import ModelChannel, ModelProcess, SandboxPolicy
"""

from brownfield.confinement import SandboxPolicy
from brownfield.model.process.address import local_address
from brownfield.model.process.caller import Caller, call
from brownfield.model.process.channel import AnswerLate, ModelChannel, WorkerDied
from brownfield.model.process.environment import ENVIRONMENT_RULES, Environments, locked_packages
from brownfield.model.process.replies import Reply, RunFailed
from brownfield.model.process.spawn import Hello, ModelProcess, ModelTensor, Program, StartFailed
from brownfield.model.process.zygote import Zygote

__all__ = [
    "ENVIRONMENT_RULES",
    "AnswerLate",
    "Caller",
    "Environments",
    "Hello",
    "ModelChannel",
    "ModelProcess",
    "ModelTensor",
    "Program",
    "Reply",
    "RunFailed",
    "SandboxPolicy",
    "StartFailed",
    "WorkerDied",
    "Zygote",
    "call",
    "local_address",
    "locked_packages",
]
