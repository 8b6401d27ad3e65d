"""`fitproof recommend`: what can be trained on this card?"""

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("recommend")(recommend)


def recommend(
    card: Annotated[str | None, typer.Argument(help='Catalogue name: "4090"; or here, this machine\'s own.')] = None,
    gpu: Annotated[str | None, typer.Option(help="The card, as the argument names it.", metavar="4090|here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
) -> None:
    """What can I train on this card? For each size of model the best method, length and batch that fit."""
    from app.cli.flags import one_card, with_the_card_here
    from app.cli.terminal import console, print_json, table
    from planner.answer.reach.recommend import document_of
    from planner.catalog import resolve_gpu
    from planner.errors import FieldProblem, InvalidRequestError
    from planner.request.schema import CustomGpu
    from planner.units import format_gib

    named = one_card(card, gpu)
    if not named:
        raise InvalidRequestError("No card is named.", [FieldProblem("gpu", 'name one, such as "4090", or here')])
    asked = with_the_card_here({"gpu": named})["gpu"]
    found = document_of(resolve_gpu(asked if isinstance(asked, str) else CustomGpu(**asked)))
    if as_json:
        print_json(found)
        return
    out = console()
    out.print(f"{found['name']}: {format_gib(found['usable_bytes'])} usable\n")
    rows = table("size", "model", "method", ">longest, batch 1", ">largest batch", "cards")
    for choice in found["choices"]:
        rows.add_row(choice["size"], choice["model"], *_cells(choice))
    out.print(rows)
    out.print(
        "\nWith Liger's loss (use_liger_kernel) where Liger knows the model, which costs nothing. "
        "fitproof plan MODEL CARD --method METHOD --loss liger shows every byte; fitproof max how far a run stretches."
    )


def _cells(choice: dict[str, Any]) -> tuple[str, ...]:
    if choice["outcome"] == "nothing":
        return ("none of them", "", "", "more than 8")
    several = "" if choice["verdict"] == "fits" else ", planned from source, held to no dry run"
    return (
        choice["method"],
        f"{choice['max_length']:,} tokens",
        f"{choice['per_device_train_batch_size']:,} × {choice['at_length']:,}",
        f"{choice['cards']} with FSDP{several}" if choice["cards"] > 1 else "1",
    )
