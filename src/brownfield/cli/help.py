"""How help shows options: one that takes no value shows none; typer 0.29 writes ``<bool>`` there."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

__all__ = ["Verb", "Verbs"]


class Verb(TyperCommand):
    """A verb of the command line."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters as typer does, ``--help`` among them."""
        return _without_values(super().get_params(ctx))


class Verbs(TyperGroup):
    """The command line as a whole."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give the parameters as typer does, ``--help`` among them."""
        return _without_values(super().get_params(ctx))


def _without_values(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
