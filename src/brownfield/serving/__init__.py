"""One running workspace: the prediction path, its doors, its workers and its fallbacks."""

from brownfield.serving.background import Background, serve_workspace
from brownfield.serving.supervisor import Supervisor

__all__ = ["Background", "Supervisor", "serve_workspace"]
