"""Exit statuses, and errors as people read them."""

import logging
import os
import sys
import traceback

import typer
from typer.core import TyperGroup

from planner.errors import FitproofError

EXIT_BAD_INPUT = 2
# sysexits.h, EX_SOFTWARE: none of the statuses that a CI job reads as a verdict.
EXIT_BROKEN = 70
# What a shell reports for a program that SIGPIPE ended.
EXIT_PIPE_CLOSED = 141

EXIT_BY_VERDICT = {"fits": 0, "does_not_fit": 1, "tight": 3}


class Commands(TyperGroup):
    """The group of commands: an error of ours becomes its sentences and status 2."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # typer's Context is click's, vendored
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except FitproofError as error:
            complain(error)
            raise typer.Exit(getattr(error, "exit_status", EXIT_BAD_INPUT)) from None
        except BrokenPipeError:
            # The reader (`| head`) is gone. Typer would end with 1, a verdict; Python would complain at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_PIPE_CLOSED) from None


def complain(error: FitproofError) -> None:
    """Say what is wrong on stderr, one line per bad field."""
    lines = [error.title, *(f"  {problem.field}: {problem.message}" for problem in error.problems)]
    typer.echo("\n".join(lines), err=True)


def unforeseen(error: Exception) -> int:
    """Say that something broke, and return the exit status. FITPROOF_LOG_LEVEL=debug shows where."""
    if os.environ.get("FITPROOF_LOG_LEVEL") == logging.getLevelName(logging.DEBUG).lower():
        traceback.print_exception(error)
    typer.echo(f"fitproof broke: {type(error).__name__}: {' '.join(str(error).split())[:300]}", err=True)
    return EXIT_BROKEN
