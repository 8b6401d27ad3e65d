"""`fitproof dry-run`: the command, the run it starts, the page it writes."""

from app.cli.dry_run.command import register

__all__ = ["register"]
