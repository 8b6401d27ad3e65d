"""`fitproof probe`: the command, a child process of its own, a server's queue."""

from app.cli.probe.command import register

__all__ = ["register"]
