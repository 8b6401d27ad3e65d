"""A program that speaks the probe's protocol and misbehaves on request. The request's max_length says how."""

import json
import os
import signal
import sys
import time
from pathlib import Path

# Of a tenth of a second each: long enough for two more orders on a busy machine.
SLOW_STEPS = 40
QUICK, SLOW, HANG, CRASH, SILENT, OUT_OF_MEMORY, GREEDY, CHATTY, BABBLING, KILLED, HELD, STUBBORN = range(64, 76)


def main() -> int:
    request = json.loads(sys.stdin.read())
    journal = Path(sys.argv[1])
    instrument = sys.argv[sys.argv.index("--on") + 1]
    behaviour = request["training"]["max_length"]
    mark = f"{request['lora']['lora_alpha']:.0f}"
    note(journal, f"start {mark} {os.getpid()}")
    note(journal, f"secrets {mark} {sum('TOKEN' in name for name in os.environ)}")
    say({"stage": "load", "index": 0, "seconds": 0.0})
    print("a library's chatter", file=sys.stderr, flush=True)
    while behaviour == HELD and (journal.parent / "hold").exists():
        time.sleep(0.05)
    if (status := misbehave(behaviour)) is not None:
        return status
    say({"stage": "backward", "index": 1, "seconds": 0.1})
    note(journal, f"end {mark} {os.getpid()}")
    print(json.dumps(measurement(request, instrument, behaviour)), flush=True)
    return 0


def misbehave(behaviour: int) -> int | None:
    if behaviour == SLOW:
        for step in range(SLOW_STEPS):
            say({"stage": "step", "index": step, "seconds": step / 10})
            time.sleep(0.1)
    elif behaviour == HANG:
        time.sleep(600)
    elif behaviour == CRASH:
        print("The probe failed: RuntimeError: the machinery broke", file=sys.stderr, flush=True)
        return 1
    elif behaviour == SILENT:
        return 0
    elif behaviour in {GREEDY, STUBBORN}:
        grow(stubborn=behaviour == STUBBORN)
    elif behaviour in {CHATTY, HELD}:
        for index in range(6000):
            say({"stage": "step", "index": index, "seconds": 0.0})
    elif behaviour == BABBLING:
        while True:
            sys.stdout.write("x" * (1 << 20))
    elif behaviour == KILLED:
        os.kill(os.getpid(), 9)
    return None


def grow(*, stubborn: bool) -> None:
    """Take 256 MiB and keep them; or 1.25 GiB bit by bit, whoever asks for an end, and then come to one."""
    if not stubborn:
        hoard = [bytearray(os.urandom(1 << 20)) for _ in range(256)]
        time.sleep(60 + len(hoard))
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pieces = []
    for _ in range(40):
        pieces.append(b"x" * (32 << 20))
        time.sleep(0.02)


def measurement(request: dict, instrument: str, behaviour: int) -> dict:
    died = behaviour == OUT_OF_MEMORY
    reading = {"name": "backward", "peak_allocated_bytes": 5 << 30, "resident_bytes": 4 << 30, "seconds": 0.1}
    device = {"name": "NVIDIA H100 80GB HBM3", "total_memory_bytes": 84_986_691_584, "compute_capability": "9.0"}
    return {
        "version": 1,
        "instrument": instrument,
        "outcome": "out_of_memory" if died else "ok",
        "failed_phase": "backward" if died else None,
        "requested_bytes": 1 << 30 if died else None,
        "short_bytes": 1 << 29 if died else None,
        "peak_allocated_bytes": 5 << 30,
        "phases": [reading],
        "peak_parts": []
        if died
        else [
            {"name": "layers.*.mlp", "held_bytes": 3 << 30, "made_bytes": 1 << 30},
            {"name": "embed_tokens", "held_bytes": 1 << 30, "made_bytes": 0},
        ],
        "steps": 3,
        "tokens_per_micro_batch": request["training"]["max_length"],
        "device": device,
        "versions": {"torch": "2.14.1"},
        "request": request,
    }


def say(line: dict) -> None:
    print(json.dumps(line), file=sys.stderr, flush=True)


def note(journal: Path, line: str) -> None:
    with journal.open("a") as book:
        book.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
