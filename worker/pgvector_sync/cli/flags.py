"""Removes `<bool>` from flags in `--help`: Typer prints `--once <bool>`, as if the flag took a value."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup, TyperOption


class Group(TyperGroup):
    """A group that removes the type from the flags of its commands and subgroups."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_types(super().get_params(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            show_as_flags(command, ctx)
        return command


def show_as_flags(command: Any, ctx: Any) -> None:
    """Remove the type from the flags of a command and of the commands below it."""
    _without_types(command.get_params(ctx))
    for inner in getattr(command, "commands", {}).values():
        show_as_flags(inner, ctx)


def _without_types(params: list[Any]) -> list[Any]:
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return params
