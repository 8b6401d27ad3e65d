"""One process's report: its peaks, the curve of a step, and what the peak was made of, from torch's memory history."""

import json
import os
import pickle
import sys
import types

from fitproof_bootstrap import cards, kinds, places, ranks, refusal, training

# Everything up to the first backward pass: nothing tells loading from the first forward pass.
BEFORE_BACKWARD = "load and first forward"
# Points of the curve that a report carries; each is the highest of its share of events.
CURVE_POINTS = 400
# Rows of each table of a report; what is left out is summed up in one row.
MOST_ROWS = 40


def write(recorder, outcome, message):
    """Write `process-PID.json` into the run's folder, whole or not at all."""
    used = recorder.torch.cuda.is_initialized()
    if not used and message is None:
        return
    try:
        save(recorder.folder, report(recorder, outcome, message) if used else who(outcome, message))
    except OSError as error:
        refusal.refuse(recorder.run, f"The dry run's report cannot be written: {error.strerror}.")


def save(folder, document):
    """Write one process's document, whole or not at all."""
    path = os.path.join(folder, f"process-{os.getpid()}.json")
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(path + ".part", path)


def who(outcome, message):
    """A process that used no card: all there is to tell is how it ended."""
    rank, world_size = ranks.place()
    return {
        "process_id": os.getpid(),
        "rank": rank,
        "world_size": world_size,
        "outcome": outcome,
        "message": message,
        "card": None,
    }


def report(recorder, outcome, message):
    """Everything the parent is told of this process."""
    torch = recorder.torch
    cuda = torch.cuda
    device = cuda.current_device()
    snapshot = _snapshot(torch)
    trace = snapshot["device_traces"][device]
    peak = _peak_of(trace)
    modules = kinds.modules_of(torch)
    held = kinds.held_by(torch, modules, recorder.optimizer)
    peaks = [step["peak_allocated_bytes"] for step in recorder.steps] + [cuda.max_memory_allocated()]
    reserved = [step["peak_reserved_bytes"] for step in recorder.steps] + [cuda.max_memory_reserved()]
    document = {
        **who(outcome, message),
        "device": device,
        "steps": recorder.steps,
        "peak_allocated_bytes": max(peaks),
        "peak_reserved_bytes": max(reserved),
        "out_of_memory": _refusal(recorder.out_of_memory),
        "peak": _peak_document(peak, trace, recorder.marks, held),
        "curve": _curve(trace, recorder.marks),
        "card": cards.read(device),
        "training": training.circumstances(torch, modules, recorder.optimizer),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }
    if recorder.run["find_smallest"]:
        document["replay"] = _write_trace(recorder, trace, cuda.memory_stats().get("num_alloc_retries", 0))
    if recorder.run["snapshot"]:
        path = os.path.join(recorder.folder, f"snapshot-{os.getpid()}.pickle")
        with open(path, "wb") as file:
            pickle.dump(snapshot, file)
        document["snapshot_file"] = path
    return document


def _snapshot(torch):
    """torch's memory history and segments.

    torch looks up whether `torch._inductor` has generated code that frames belong to, and would import the compiler,
    seconds of a processor and a folder in the temporary one, where the program never used it.
    """
    if "torch._inductor" in sys.modules:
        return torch.cuda.memory._snapshot()
    vars(torch)["_inductor"] = types.ModuleType("torch._inductor")
    try:
        return torch.cuda.memory._snapshot()
    finally:
        del vars(torch)["_inductor"]


def _write_trace(recorder, trace, retries):
    """What fitproof_bootstrap.replay plays: allocations, releases, and where the program emptied the cache.

    The allocator empties it itself before it tries once more, and then makes a segment: the replay does that by itself.
    """
    events = []
    for index, event in enumerate(trace):
        action = event["action"]
        if action == "alloc":
            events.append(("alloc", event["addr"], event["size"], event["stream"]))
        elif action == "free_completed":
            events.append(("free", event["addr"], 0, 0))
        elif action in ("segment_free", "segment_unmap") and (not events or events[-1][0] != "empty"):
            following = next((later["action"] for later in trace[index:] if later["action"] != action), "")
            if not (retries and following in ("segment_alloc", "segment_map")):
                events.append(("empty", 0, 0, 0))
    path = os.path.join(recorder.folder, f"trace-{os.getpid()}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(events, file)
    site = os.path.dirname(os.path.dirname(recorder.torch.__file__))
    return {"file": path, "executable": sys.executable, "site": site}


def _changes(trace):
    """(index, bytes) of every event that changes what is allocated.

    The counter falls when a block is given back (CUDACachingAllocator.cpp, free), before `free_completed` where another
    stream used it.
    """
    for index, event in enumerate(trace):
        if event["action"] == "alloc":
            yield index, event["size"]
        elif event["action"] == "free_requested":
            yield index, -event["size"]


def _peak_of(trace):
    """The index of the last event that reaches the most bytes, and those bytes.

    The last, because what it made is the likeliest to be held still when the report is written, and so to be named.
    """
    allocated = most = 0
    where = None
    for index, change in _changes(trace):
        allocated += change
        if allocated >= most:
            most, where = allocated, index
    return where, most


def _alive_at(trace, end):
    """The allocations that are alive after event `end`."""
    alive = {}
    for index, _ in _changes(trace[: end + 1]):
        event = trace[index]
        if event["action"] == "alloc":
            alive[event["addr"]] = (index, event)
        else:
            alive.pop(event["addr"], None)
    return alive


def _peak_document(peak, trace, marks, held):
    where, total = peak
    if where is None:
        return None
    at_peak, at_end = _alive_at(trace, where), _alive_at(trace, len(trace) - 1)
    by_kind, by_module, by_line = {}, {}, {}
    for address, (index, event) in at_peak.items():
        # A held tensor is the block of the peak only if nothing was freed at its address since.
        same = address in at_end and at_end[address][0] == index
        kind = held.find(address, event["size"]) if same else None
        place = places.place_of(event.get("frames") or (), otherwise=_without_frames(marks, event))
        kind = kind or ("workspace" if place.workspace else _temporary(marks, trace[where]))
        for table, key in ((by_kind, kind), (by_module, place.module), (by_line, place.line)):
            table[key] = table.get(key, 0) + event["size"]
    moment = _phase_at(marks, trace[where]["time_us"])
    largest = trace[where]
    return {
        "allocated_bytes": total,
        "phase": moment["phase"],
        "step": moment["step"],
        "line": places.place_of(largest.get("frames") or ()).line,
        "by_kind": _rows(by_kind),
        "by_module": _rows(by_module),
        "by_line": _rows(by_line),
    }


def _without_frames(marks, event):
    """autograd runs backward in threads of its own, where no Python stands."""
    return "autograd" if _phase_at(marks, event["time_us"])["phase"] == "backward" else "inside torch"


def _temporary(marks, event):
    """What the tensors of a moment are that no parameter, gradient or optimizer holds."""
    phase = _phase_at(marks, event["time_us"])["phase"]
    return {BEFORE_BACKWARD: "loading and activations", "optimizer": "optimizer temporaries"}.get(phase, "activations")


def _phase_at(marks, time_us):
    current = {"phase": BEFORE_BACKWARD, "step": 0}
    for mark in marks:
        if mark["time_us"] > time_us:
            break
        current = mark
    return current


def _rows(table):
    rows = sorted(table.items(), key=lambda row: -row[1])
    kept, rest = rows[:MOST_ROWS], rows[MOST_ROWS:]
    named = [{"name": name, "bytes": size} for name, size in kept]
    return [*named, {"name": f"{len(rest)} more", "bytes": sum(size for _, size in rest)}] if rest else named


def _curve(trace, marks):
    """[time_us, allocated bytes, phase], thinned to the highest of each share of events."""
    allocated, points = 0, []
    for index, change in _changes(trace):
        allocated += change
        points.append((trace[index]["time_us"], allocated))
    share = max(1, len(points) // CURVE_POINTS)
    highest = [max(points[start : start + share], key=lambda point: point[1]) for start in range(0, len(points), share)]
    return [[time_us, size, _phase_at(marks, time_us)["phase"]] for time_us, size in highest]


def _refusal(found):
    if found is None:
        return None
    place = places.place_of(
        [{"filename": file, "line": line, "name": name} for file, line, name in found["stack"][::-1]]
    )
    rest = {name: value for name, value in found.items() if name != "stack"}
    return {**rest, "line": place.line, "module": place.module}
