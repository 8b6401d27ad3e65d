"""`fitproof gpus`: the cards, and how much of each torch gets."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("gpus")(gpus)


def gpus(
    words: Annotated[list[str] | None, typer.Argument(help='Words of a name: "4090", "24gb".')] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
) -> None:
    """List cards of the catalogue. Any other card can be given by --memory and --capability."""
    from app.catalog import gpu_list
    from app.cli.terminal import print_json, print_rows
    from planner.units import format_gib

    found = gpu_list(" ".join(words or ()), limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            item["id"],
            item["name"],
            f"{item['nominal_gb']} GB" if item["nominal_gb"] else "",
            format_gib(item["usable_bytes"]) if item["usable_bytes"] else "not known",
            item["usable_evidence"] or "",
            item["compute_capability"] or "",
        )
        for item in found["items"]
    ]
    print_rows(("card", "name", ">nominal", ">usable", "evidence", ">capability"), rows, found["total"])
