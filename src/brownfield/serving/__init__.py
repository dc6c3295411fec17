"""One running workspace: the prediction path, its doors, its workers and its fallbacks."""

from brownfield.serving.supervisor import Supervisor, serve

__all__ = ["Supervisor", "serve"]
