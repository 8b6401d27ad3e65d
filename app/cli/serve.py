"""`fitproof serve`: the site and the API."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("serve")(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (FITPROOF_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one (FITPROOF_PORT).")] = None,
) -> None:
    """Serve the site and the API until interrupted."""
    import logging

    from app import logs
    from app.settings import Settings, unknown_variables

    settings = Settings.load(host=host, port=port)

    import uvicorn  # after the settings were checked: a second's worth of imports

    from app.main import create_app

    logs.configure(settings.log_format, settings.log_level)
    for name in unknown_variables():
        logging.getLogger("fitproof").warning("%s is no setting of Fitproof; check the spelling", name)
    app = create_app(settings)
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False, server_header=False)
