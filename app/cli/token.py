"""`fitproof token`: make, list and revoke the tokens that open a server; print its owner's own link."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.db.database import Database


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("token")(token)


def token(
    name: Annotated[str, typer.Argument(help="Whom the new token is for.")] = "unnamed",
    revoke: Annotated[str | None, typer.Option(help="Refuse the token with this id from now on.", metavar="ID")] = None,
    local: Annotated[bool, typer.Option("--local", help="Print the link that signs a browser here in.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the tokens; their secrets cannot be shown.")] = False,
) -> None:
    """Make a token in the server's database and print it once, or list or revoke tokens."""
    from app.db.migrate import migrate
    from app.jobs.service import open_database
    from app.security.tokens import create_token, revoke_token
    from app.settings import Settings

    settings = Settings.load()
    if local:
        typer.echo(_local_link(settings.data_dir))
        return
    database = open_database(settings)
    try:
        migrate(database)
        if listed:
            _print_tokens(database)
        elif revoke is not None:
            revoke_token(database, revoke)
            typer.echo(f"Token {revoke} opens nothing any more.", err=True)
        else:
            made = create_token(database, name)
            typer.echo(f"Token {made.id} for {name}. It is shown this once; send it as Authorization: Bearer", err=True)
            typer.echo(made.secret)
    finally:
        database.close()


def _local_link(data_dir: Path) -> str:
    from app.security.local_access import newest_link
    from planner.errors import FieldProblem, InvalidRequestError

    link = newest_link(data_dir)
    if link is None:
        problem = FieldProblem("--local", f"start one with fitproof serve; its link is kept in {data_dir}")
        raise InvalidRequestError("No server of this account runs here.", [problem])
    return link


def _print_tokens(database: "Database") -> None:
    from app.cli.terminal import print_rows
    from app.jobs.resources import moment
    from app.security.tokens import list_tokens

    tokens = list_tokens(database)
    rows = [(each.id, each.name, moment(each.created_at) or "", moment(each.revoked_at) or "") for each in tokens]
    print_rows(("id", "for", "made", "revoked"), rows, len(rows))
