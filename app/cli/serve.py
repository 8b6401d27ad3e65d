"""`fitproof serve`: the site and the API."""

from types import FrameType
from typing import Annotated, Any, cast

import typer

from app.cli import garbage
from app.cli.errors import EXIT_BROKEN


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (FITPROOF_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one (FITPROOF_PORT).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that answer questions (FITPROOF_WORKERS).")] = None,
) -> None:
    """Serve the site and the API until interrupted."""
    import asyncio
    import contextlib
    import functools
    import logging
    import socket
    import sys

    from app import logs
    from app.settings import Settings, unknown_variables

    settings = Settings.load(host=host, port=port, workers=workers)

    import uvicorn  # after the settings were checked: a second's worth of imports

    from app.compute.middleware import ACCURACY
    from app.compute.prefetch import prefetch
    from app.compute.processes import NoWorkersError
    from app.db.database import StorageUnavailableError
    from app.jobs.service import prepare_database
    from app.main import create_app
    from app.network.connections import BACKLOG, BoundedConnection, Doors, quiet_accept_errors
    from app.security.local_access import published

    logs.configure(settings.log_format, settings.log_level)
    for name in unknown_variables():
        logging.getLogger("fitproof").warning("%s is no setting of Fitproof; check the spelling", name)
    try:
        prepare_database(settings)
    except StorageUnavailableError as error:  # the operator's environment, not user input: no exit status 2
        typer.echo(f"the server cannot start: {error.title}", err=True)
        raise typer.Exit(EXIT_BROKEN) from None
    app = create_app(settings)
    garbage.as_usual()
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
        http=cast(Any, functools.partial(BoundedConnection, Doors())),
        backlog=BACKLOG,
        ws="none",  # whose library takes 2 MiB
    )

    stack = contextlib.ExitStack()

    class Server(uvicorn.Server):
        """Ends event streams first: uvicorn waits for open answers, and these would go on for minutes."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            quiet_accept_errors(asyncio.get_running_loop())
            # Otherwise the first request waits for seconds. If it fails, requests get an error and it is retried.
            with contextlib.suppress(NoWorkersError, TimeoutError, OSError):
                await app.state.pool.start()
            await super().startup(sockets)
            if self.started:
                # Its first view takes a second and a half of a processor.
                self.preparing = asyncio.ensure_future(prefetch(app, ACCURACY, "br"))
                bound = self.servers[0].sockets[0].getsockname()[1]
                link = stack.enter_context(published(settings.data_dir, settings.host, bound, app.state.local_key))
                # Not into logs that others may read.
                shown = link if sys.stderr.isatty() else "what fitproof token --local prints"
                typer.echo(f"To probe from a browser on this machine, open {shown}", err=True)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.service.streams.stopping = True
            super().handle_exit(sig, frame)

    server = Server(config)
    with stack, contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(EXIT_BROKEN)
