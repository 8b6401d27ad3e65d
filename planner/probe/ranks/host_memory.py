"""Whether this machine has what a rank keeps in host memory, said before anything is loaded.

Offloaded parameters, gradients and optimizer states are real memory, also in a dry run: the CPU works on them. Ranks
run one after another, so one rank's share is all that has to be there.
"""

import os

from planner.errors import FieldProblem, FitproofError, InvalidRequestError
from planner.probe.processes.host_memory import available_bytes
from planner.request.schema import Request
from planner.units import format_gib

# A server says with it what it ends a probe at (app/engines/local.py).
CEILING_VARIABLE = "FITPROOF_PROBE_MEMORY_BYTES"


def refuse_without_host_memory(request: Request) -> None:
    """Do nothing where the formulas know no host bytes: a model type of their own, or nothing that is offloaded.

    Raises:
        InvalidRequestError: a rank keeps more in host memory than is free.
    """
    field = _what_offloads(request)
    if field is None:
        return
    # The formulas are a third of a second's import; every other probe does without them.
    from planner.answer.plan import plan  # noqa: PLC0415

    try:
        host_bytes = plan(request).host_bytes
    except FitproofError:
        return
    free_bytes = available_bytes()
    allowed_bytes = int(os.environ.get(CEILING_VARIABLE) or free_bytes)
    if host_bytes > min(free_bytes, allowed_bytes):
        room = f"{format_gib(free_bytes)} is free here"
        if allowed_bytes < free_bytes:
            room = f"{format_gib(allowed_bytes)} is what a probe may take here ({CEILING_VARIABLE})"
        fix = (
            f"each rank keeps {format_gib(host_bytes)} in host memory, in a dry run too, and {room}; run it where "
            "there is as much, or plan it by formula"
        )
        raise InvalidRequestError("This machine has too little memory.", [FieldProblem(field, fix)])


def _what_offloads(request: Request) -> str | None:
    if request.fsdp is not None and request.fsdp.cpu_offload:
        return "fsdp.cpu_offload"
    zero = request.deepspeed
    if zero is not None and "cpu" in {zero.offload_optimizer, zero.offload_param}:
        return "deepspeed.offload_optimizer" if zero.offload_optimizer == "cpu" else "deepspeed.offload_param"
    return None
