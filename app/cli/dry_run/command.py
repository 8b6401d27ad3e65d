"""`fitproof dry-run`: a person's own program on virtual cards. Exits as `fitproof plan` does."""

from pathlib import Path
from typing import Annotated, Literal

import typer

MOST_CARDS = 1024
# Lengths that vary never repeat a peak; after this many steps the largest seen is the answer.
MOST_STEPS = 20


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("dry-run")(dry_run)


def dry_run(  # noqa: PLR0913 (a command's options are its parameters)
    command: Annotated[list[str], typer.Argument(help="Your program, after --.", metavar="-- PROGRAM …")],
    *,
    gpu: Annotated[str, typer.Option(help="A card of the catalogue: rtx-4090.")],
    gpus: Annotated[int, typer.Option(help="How many of it.", min=1, max=MOST_CARDS)] = 1,
    memory_limit: Annotated[str | None, typer.Option(help="Give each card less memory.", metavar="24GiB")] = None,
    taken: Annotated[
        str | None, typer.Option(help="What a desktop or others hold of each card already.", metavar="700MiB")
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(help="Run the first so many of the world's ranks; 0: all. By itself two of three or more.", min=0),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no hub: models of the cache or the catalogue.")
    ] = False,
    scratch: Annotated[
        Path | None,
        typer.Option(help="Keep what it saves in this folder; else that goes with the run.", metavar="FOLDER"),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Let it save where it says.")] = False,
    steps: Annotated[int, typer.Option(help="Optimizer steps; 0: until a step's peak repeats.", min=0)] = 0,
    find_smallest: Annotated[
        bool, typer.Option("--find-smallest", help="Find the smallest card that each rank survives on.")
    ] = False,
    routing: Annotated[Literal["even", "skewed"], typer.Option(help="How mixtures route tokens.")] = "even",
    deadline: Annotated[float, typer.Option(help="Give up after this many seconds.", min=1)] = 900,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the report as JSON, after the program's own output.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report as one page.", metavar="FILE")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="Write torch's memory snapshot.", metavar="FILE")] = None,
) -> None:
    """Will this program fit? Runs it unchanged on virtual cards. Exits 0 fits, 1 does not fit, 2 no answer, 3 tight."""
    from app.cli.dry_run.running import run_on_virtual_cards, show_report, status_of
    from app.cli.terminal import print_json

    report = run_on_virtual_cards(
        command,
        gpus=[gpu] * gpus,
        memory_limit=memory_limit,
        taken=taken,
        options={
            "ranks": ranks,
            "offline": offline,
            "scratch": str(scratch) if scratch else None,
            "in_place": in_place,
            "steps": steps,
            "most_steps": MOST_STEPS,
            "find_smallest": find_smallest,
            "routing": routing,
            "deadline_seconds": deadline,
            "snapshot": str(snapshot) if snapshot else None,
        },
    )
    if html is not None:
        from app.cli.dry_run.page import write_page

        write_page(report, html)
    if as_json:
        print_json(report)
    else:
        show_report(report)
    raise typer.Exit(status_of(report))
