"""The program and its group of commands; the commands themselves stand in the files beside this one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from netferry.cli import plain_help
from netferry.cli.voice import spoken
from netferry.converters.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., None])

_MISTYPED: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")


class _Group(plain_help.Group):
    """The commands; what is mistyped is told as one JSON document, too, where one is asked for."""

    def main(self, args: Any = None, *, standalone_mode: bool = True, **keywords: Any) -> Any:  # type: ignore[override]
        given = sys.argv[1:] if args is None else list(args)
        if not standalone_mode or "--json" not in given:
            return super().main(args, standalone_mode=standalone_mode, **keywords)
        try:
            code = super().main(args, standalone_mode=False, **keywords)
        except _MISTYPED as error:
            fault = UsageError(
                error.format_message().rstrip("."), remedy="netferry --help shows what there is"
            )
            typer.echo(json.dumps(fault.to_json(), indent=2))
            code = error.exit_code
        sys.exit(code or 0)


class _Program(typer.Typer):
    """Commands that all have the flags of ``voice``, and help in panels."""

    def command(self, *arguments: Any, **keywords: Any) -> Callable[[Function], Function]:
        register = super().command(*arguments, **{"cls": plain_help.Command, **keywords})

        def add(function: Function) -> Function:
            register(spoken(function))
            return function

        return add


_MARKUP = plain_help.markup()

app = _Program(
    name="netferry",
    cls=_Group,
    help="Convert a trained model from one framework to another, and prove that the result is equal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=_MARKUP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo_app = _Program(
    cls=plain_help.Group,
    help="The reference models, trained natively in each framework.",
    no_args_is_help=True,
    rich_markup_mode=_MARKUP,
)
app.add_typer(zoo_app, name="zoo")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from netferry.version import VERSION

        typer.echo(VERSION)
        raise typer.Exit
