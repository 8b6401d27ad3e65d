"""`python -m planner.probe`: one real training step, watched. Reads a Request, prints a Measurement.

Progress goes to stderr as JSON lines; the last line on stdout is the Measurement. Exit 0 for a measurement, out of
memory included; 2 for a request that cannot be used; 124 at the deadline, 143 when asked to stop; 1 when the machinery
failed. Each but the first comes with one sentence on stderr.
"""

import gc
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from planner.address_space import limit_words
from planner.errors import FitproofError
from planner.measurement import Measurement
from planner.probe.devices.allocator_settings import settle_allocator
from planner.probe.devices.virtual_card import insert_card, insert_no_card
from planner.probe.options import Options, parse_options
from planner.probe.processes.lifecycle import EXIT_STATUS, SENTENCES, Stopped, bounded_life
from planner.probe.progress import Progress
from planner.probe.ranks.host_memory import refuse_without_host_memory
from planner.request.schema import Request

EXIT_BAD_INPUT = 2
EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    options = parse_options(sys.argv[1:] if arguments is None else arguments)
    try:
        with bounded_life(options.deadline_seconds):
            measurement = measured(_read_request(options), options, Progress())
    except Stopped as stopped:
        _say(SENTENCES[stopped.reason])
        return EXIT_STATUS[stopped.reason]
    except FitproofError as error:
        _say(error.title, *(f"{problem.field}: {problem.message}" for problem in error.problems))
        return EXIT_BAD_INPUT
    except Exception as error:  # the boundary: whatever broke inside is one sentence outside
        if options.debug:
            traceback.print_exc()
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        _say(*filter(None, [limit_words()]), f"The probe failed: {said}")
        return EXIT_FAILED
    print(measurement.model_dump_json(), flush=True)  # noqa: T201  # the answer
    return 0


def measured(request: Request, options: Options, progress: Progress) -> Measurement:
    """Settle what torch reads when it wakes up, import the stack, measure.

    Raises:
        FitproofError: the request or the options name something that cannot be built or run here.
    """
    progress("import", 0)
    be_quiet()
    if options.instrument != "cpu":
        settle_allocator(os.environ, expandable=request.training.expandable_segments)
    if options.instrument == "dry-run":
        refuse_without_host_memory(request)
        insert_card(request, options.memory_limit_bytes)
    else:
        insert_no_card()
    from planner.probe.measure import measure  # noqa: PLC0415  # takes seconds: only once the request was read

    gc.freeze()  # what was imported stays: spare every collection a walk over it
    try:
        return measure(request, options, progress)
    finally:
        gc.unfreeze()


def _read_request(options: Options) -> Request:
    text = options.request_file.read_text() if options.request_file else sys.stdin.read()
    try:
        return Request.parse(json.loads(text))
    except json.JSONDecodeError as error:
        msg = f"The request is no JSON: {error}"
        raise FitproofError(msg) from None


def be_quiet() -> None:
    """Leave stderr to the progress lines, and the compiler at home. Before the stack is imported."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    # bitsandbytes hands its CPU fallbacks to torch.compile, which costs seconds and is used by no instrument.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def _say(title: str, *details: str) -> None:
    print(" ".join([title, *details]), file=sys.stderr, flush=True)  # noqa: T201  # the one sentence


if __name__ == "__main__":
    sys.exit(main())
