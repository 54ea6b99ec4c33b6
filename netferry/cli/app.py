"""The program and its group of commands; the commands themselves stand in the files beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="netferry",
    help="Convert a trained model from one framework to another, and prove that the result is equal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
zoo_app = typer.Typer(help="The reference models, trained natively in each framework.", no_args_is_help=True)
app.add_typer(zoo_app, name="zoo")


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from netferry.version import VERSION

        typer.echo(VERSION)
        raise typer.Exit
