"""`fitproof probe`: one real training step in a child process, with its prediction beside it."""

from typing import Annotated

import typer

from app.cli.errors import EXIT_BY_VERDICT
from app.cli.flags import Document, takes_a_run
from app.cli.spellings import CommandOfARun


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("probe", cls=CommandOfARun)(takes_a_run(probe))


def probe(  # noqa: PLR0913 (a command's options are its parameters)
    document: Document,
    *,
    on: Annotated[
        str | None, typer.Option("--on", help="What to run it on; a server can pick.", metavar="dry-run|cpu|cuda")
    ] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Play a smaller card.", metavar="24GiB")] = None,
    routing: Annotated[str | None, typer.Option(help="How a dry run routes tokens.", metavar="even|skewed")] = None,
    ranks: Annotated[int | None, typer.Option(help="Of several cards run the first so many ranks; 0: all.")] = None,
    find_smallest: Annotated[bool, typer.Option(help="Find the smallest memory that survives.")] = False,
    weights: Annotated[str | None, typer.Option(help="Weights to load.", metavar="synthetic|hub|DIR")] = None,
    deadline: Annotated[float | None, typer.Option(help="Give up after this many seconds.")] = None,
    server: Annotated[str | None, typer.Option(help="Run it on a Fitproof server.", metavar="URL")] = None,
    token: Annotated[str | None, typer.Option(help="The server's token.", envvar="FITPROOF_TOKEN")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurement's document.")] = False,
) -> None:
    """Run one real training step and compare. Exits 0 fits, 1 out of memory or does not, 2 bad input, 3 in part."""
    from app.cli import local
    from app.cli.probe.measuring import ProbeRun, show_comparison, status_of
    from app.cli.terminal import print_json

    request = local.read(document)
    subject, gpu, prediction = local.predict(request)
    options = {
        "memory-limit": memory_limit,
        "routing": routing,
        "weights": weights,
        "deadline": deadline,
        "ranks": ranks,
    }
    options["find-smallest"] = find_smallest or None
    if server is None:
        measurement = ProbeRun(on or "dry-run", options).of(subject)
    else:
        from app.cli.probe.remote import RemoteProbe, remote_document
        from app.security.local_access import key_for
        from app.settings import Settings

        # A server that this account started on this machine has written its key for us.
        token = token or key_for(Settings.load().data_dir, server)
        measurement = RemoteProbe(server, token).of(remote_document(subject, on, options))["measurement"]
    if as_json:
        print_json(measurement)
    else:
        show_comparison(measurement, prediction, gpu.usable_bytes)
    status = status_of(measurement, gpu.usable_bytes)
    raise typer.Exit(EXIT_BY_VERDICT["tight"] if status == 0 and document.not_planned else status)
