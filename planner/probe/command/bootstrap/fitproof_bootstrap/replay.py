"""`python -m fitproof_bootstrap.replay SPEC`: the smallest card on which a recorded run's allocations still succeed.

Plays every allocation and release of a trace (readings.write_trace) through the allocator of the torch that made it, on
virtual cards with less and less memory. SPEC is a JSON file: `run` (the run's run.json), `site` (where torch lies),
`card` (one card as FITPROOF_CARDS writes it, its memory left out), and per trace `file`, `context_bytes`,
`allocated_bytes`, `reserved_bytes` and `aside_bytes`, what others than the allocator took. The last line on stdout is a
JSON list: for each trace the smallest capacity, or null and why.
"""

import json
import os
import sys

from fitproof_bootstrap import cards

# A driver hands out pages of this size (planner/probe/card/src/card.h), and so capacities differ by it.
PAGE_BYTES = 2 << 20


def main():
    """Answer for every trace; equal ones are played once."""
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    state = cards.insert(spec["run"], spec["site"])
    import torch

    known, answers = {}, []
    for trace in spec["traces"]:
        with open(trace["file"], encoding="utf-8") as file:
            content = file.read()
        key = (hash(content), trace["context_bytes"], trace["reserved_bytes"], trace["aside_bytes"])
        if key not in known:
            known[key] = _smallest(torch, state, spec["card"], trace, json.loads(content))
        answers.append(known[key])
    sys.stdout.write(json.dumps(answers) + "\n")


def _smallest(torch, state, card, trace, events):
    """Bisect between what was allocated, which is too small or just enough, and what was reserved."""

    def reserved_on(allocator_bytes):
        return _in_a_fork(torch, state, card, allocator_bytes + trace["context_bytes"], events)

    again = reserved_on(trace["reserved_bytes"] + PAGE_BYTES)
    if again != trace["reserved_bytes"]:
        told = "runs out of memory" if again is None else f"reserves {again} bytes"
        return {"bytes": None, "why": f"played again, the run {told}, and it reserved {trace['reserved_bytes']} bytes"}
    low, high = (trace["allocated_bytes"] - 1) // PAGE_BYTES, -(-trace["reserved_bytes"] // PAGE_BYTES)
    while high - low > 1:
        middle = (low + high) // 2
        if reserved_on(middle * PAGE_BYTES) is None:
            low = middle
        else:
            high = middle
    return {"bytes": high * PAGE_BYTES + trace["context_bytes"] + trace["aside_bytes"], "why": ""}


def _in_a_fork(torch, state, card, total_bytes, events):
    """The most that the allocator reserved on such a card, or None where it ran out of memory."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if state.card_configure(f"total_bytes={total_bytes};{card}".encode()) == 0:
                os.write(writer, str(_play(torch, events)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        told = file.read()
    os.waitpid(child, 0)
    if not told:
        raise RuntimeError("a replay ended without an answer")
    return int(told) or None


def _play(torch, events):
    """Bytes reserved at most; 0 where an allocation fails."""
    allocate, release = (getattr(torch._C, f"_cuda_cudaCachingAllocator_raw_{name}") for name in ("alloc", "delete"))
    torch.cuda.init()
    streams = {0: torch.cuda.default_stream().cuda_stream}
    held = {}
    try:
        for action, address, size, stream in events:
            if action == "alloc":
                if stream not in streams:
                    held[f"stream {stream}"] = made = torch.cuda.Stream()
                    streams[stream] = made.cuda_stream
                held[address] = allocate(size, streams[stream])
            elif action == "free":
                if address in held:
                    release(held.pop(address))
            else:
                torch.cuda.empty_cache()
    except torch.cuda.OutOfMemoryError:
        return 0
    return torch.cuda.max_memory_reserved()


if __name__ == "__main__":
    main()
