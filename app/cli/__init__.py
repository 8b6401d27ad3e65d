"""`fitproof`: the terminal door. One command per file; each imports what it needs when it runs, to start fast."""

import sys
from io import TextIOWrapper

import typer

from app.cli import dry_run, garbage, gpus, inference, max, models, plan, probe, recommend, serve, token  # noqa: A004 (the command is called so)
from app.cli.errors import Commands, unforeseen

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Will this fine-tuning run fit on this GPU?",
)
for command in (plan, max, recommend, inference, models, gpus, dry_run, probe, serve, token):
    command.register(app)


def main() -> None:
    """Run the program. No stack trace reaches a user."""
    garbage.seldom()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that has no × shall get a ?, not an error
    try:
        app(prog_name="fitproof")
    except Exception as error:  # the boundary: what broke inside is one sentence outside
        sys.exit(unforeseen(error))
