"""`fitproof models`: what the catalogue knows."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("models")(models)


def models(
    words: Annotated[list[str] | None, typer.Argument(help='Words of a name: "llama 3 8b".')] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
) -> None:
    """List models of the catalogue. Any other hub id, folder or config.json can be planned too."""
    from app.catalog import model_list
    from app.cli.terminal import print_json, print_rows

    found = model_list(" ".join(words or ()), limit)
    if as_json:
        print_json(found)
        return
    rows = [
        (item["id"], f"{item['params'] / 1e9:.2f} B", item["model_type"], str(item["facts"].get("layers", "")))
        for item in found["items"]
    ]
    print_rows(("model", ">parameters", "type", ">layers"), rows, found["total"])
