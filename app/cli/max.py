"""`fitproof max`: the largest micro-batch and the longest length that fit, and the smallest cards."""

from typing import Annotated

import typer

from app.cli.errors import EXIT_BY_VERDICT
from app.cli.flags import Document, takes_a_run
from app.cli.spellings import CommandOfARun


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("max", cls=CommandOfARun)(takes_a_run(stretch))


def stretch(
    document: Document,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
) -> None:
    """How far can this run be stretched on this card? Each knob alone, everything else unchanged."""
    from app.cli import local
    from app.cli.terminal import console, print_json, table
    from planner.units import format_gib

    request = local.read(document)
    found = local.limits(request).to_dict()
    if as_json:
        print_json(found)
        _end(document)
    out = console()
    knobs = table("knob", ">now", ">fits up to", ">tight up to")
    for knob in ("per_device_train_batch_size", "max_length"):
        now = getattr(request.training, knob)
        knobs.add_row(knob, f"{now:,}", f"{found[knob]['fits']:,}", f"{found[knob]['tight']:,}")
    out.print(knobs)
    cards = [f"{card['gpu']} ({format_gib(card['usable_bytes'])})" for card in found["smallest_cards"]]
    out.print(f"\nSmallest cards that fit it as it is: {', '.join(cards) or 'none of the catalogue'}")
    if (count := found["cards_of_this_kind"]) and count > 1:
        out.print(f"Or {count} of this card with FSDP's full shard (4-bit weights stored as bfloat16)")
    _end(document)


def _end(document: Document) -> None:
    """A file with something that was not planned has no limits that hold: 3, as `fitproof plan` exits."""
    from planner.answer.not_planned import as_planned

    if document.not_planned:
        typer.echo(f"These hold only as planned here: {as_planned(document.not_planned)}.", err=True)
        raise typer.Exit(EXIT_BY_VERDICT["tight"])
    raise typer.Exit
