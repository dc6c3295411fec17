"""One running workspace: the prediction path, its doors, its workers and its fallbacks.

``Supervisor`` is imported on first use, so that a process which needs one module of this room imports no other.
"""

from typing import TYPE_CHECKING, Any

from brownfield.serving.background import Background, serve_workspace

if TYPE_CHECKING:
    from brownfield.serving.supervisor import Supervisor

__all__ = ["Background", "Supervisor", "serve_workspace"]


def __getattr__(name: str) -> Any:
    if name == "Supervisor":
        from brownfield.serving.supervisor import Supervisor

        return Supervisor
    raise AttributeError(name)
