"""A trainer's own configuration (Axolotl, LLaMA-Factory, TRL, ...) as the run to plan, and its advice written back."""

from collections.abc import Sequence
from pathlib import Path

import typer

from app.imports import Imported, read
from planner.answer.ways_to_fit.advice import Advice
from planner.errors import FieldProblem, InvalidRequestError

_ALLOCATOR = "training.expandable_segments"


def read_trainer_file(name: str, gpu: str | None) -> Imported:
    """Understand the file.

    Raises:
        InvalidRequestError: it cannot be read, or no trainer's keys are in it.
    """
    try:
        text = Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fix = f"is not UTF-8 from byte {error.start} on; save it as UTF-8"
        raise InvalidRequestError(f"{name} cannot be read.", [FieldProblem("model", fix)]) from None
    except OSError as error:
        raise InvalidRequestError(f"{name} cannot be read.", [FieldProblem("model", str(error))]) from None
    return read(text, gpu=gpu or "")


def say_what_became_of_it(imported: Imported) -> None:
    """Tell on stderr what was used, assumed and left out; what is left out although it moves memory first."""
    reading = imported.reading
    used, assumed = len(reading.recognised), len(reading.assumed)
    typer.echo(f"Read as {imported.trainer.name}: {used} keys used, {assumed} values by default.", err=True)
    for problem in reading.contradictions:
        typer.echo(f"  {problem.field}: {problem.message}", err=True)
    for item in sorted(reading.ignored, key=lambda item: not item.matters):
        mark = "left out, though it moves memory" if item.matters else "left out"
        typer.echo(f"  {item.key}: {mark}; {item.reason}", err=True)


def write_advised(imported: Imported | None, advice: Sequence[Advice], target: str) -> None:
    """Write the file with the best advised change that it can hold, comments kept. `-` is stdout.

    The allocator's setting is no key of any file: where every change needs it, it is told on stderr.

    Raises:
        InvalidRequestError: there is nothing to change, or the file cannot be written.
    """
    if imported is None:
        raise InvalidRequestError("There is no file to write the advice into.", [FieldProblem("--advised", "name one")])
    changes = [item.to_dict()["change"] for item in advice if not {"gpu", "model"} & set(item.change)]
    edited = [(change, *imported.edited(change)) for change in changes]
    edits = [(text, set(left)) for change, text, left in edited if len(left) < len(change)]
    whole = [text for text, left in edits if not left]
    if not whole:
        whole = [text for text, left in edits if left == {_ALLOCATOR}]
        if whole:
            typer.echo("Start the run with PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True as well.", err=True)
    if not whole:
        raise InvalidRequestError(
            "There is no advice that this file could hold.", [FieldProblem("--advised", "leave it out")]
        )
    if target == "-":
        typer.echo(whole[0], nl=False)
        return
    try:
        Path(target).write_text(whole[0], encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"{target} cannot be written.", [FieldProblem("--advised", str(error))]) from None
    typer.echo(f"Wrote {target} with the first advice made.", err=True)
