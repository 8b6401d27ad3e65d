"""`fitproof plan`: the verdict, the card filling up, and every line.

Exits 0 fits, 1 does not, 2 bad input, 3 tight or not wholly planned.
"""

from typing import Annotated

import typer

from app.cli.errors import EXIT_BY_VERDICT
from app.cli.flags import Document, takes_a_run
from app.cli.spellings import CommandOfARun


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("plan", cls=CommandOfARun)(takes_a_run(plan))


def plan(
    document: Document,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
    advised: Annotated[
        str | None, typer.Option(help="Write the trainer's file with the first advice made.", metavar="FILE|-")
    ] = None,
    every_line: Annotated[bool, typer.Option("--all", help="Show every line with its formula.")] = False,
) -> None:
    """Will this run fit on this card? Exits 0 fits, 1 does not fit, 2 bad input, 3 tight or not wholly planned."""
    from app.cli import local
    from app.cli.terminal import print_json
    from planner.answer.not_planned import as_planned

    request = local.read(document)
    plan = local.answer(request, document)
    answer = plan.to_dict()
    if advised:
        from app.cli.trainer_file import write_advised

        write_advised(document.imported, plan.advice, advised)
    if as_json:
        print_json(answer)
    elif advised != "-":
        from app.cli.answer import show

        show(request, answer, planned=as_planned(plan.not_planned), every_line=every_line)
    raise typer.Exit(EXIT_BY_VERDICT[answer["verdict"]])
