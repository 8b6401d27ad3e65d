"""`python -m tests.bench.dry_run`: CPU seconds and resident memory of dry runs, cold and forked from a warm program."""

import json
import os
import resource
import subprocess
import sys

from planner.units import MIB

MODELS = {"7B": "meta-llama/Llama-2-7b-hf", "70B": "meta-llama/Llama-2-70b-hf"}
CARD = "h100-sxm-80gb"
AT_ONCE = 4


def main() -> None:
    """Print each way of running, with what it is held to."""
    print("run                     CPU s   RSS MiB   target")
    print(f"7B QLoRA, cold       {_cold(MODELS['7B'])}   6 s")
    _warm_up()
    print(f"7B QLoRA, warm       {_line(*_forked('7B'))}   2 s")
    print(f"70B QLoRA, warm      {_line(*_forked('70B'))}   15 s, 1,536 MiB")
    together = [_start("7B") for _ in range(AT_ONCE)]
    for seconds, rss_bytes in map(_ended, together):
        print(f"7B, one of {AT_ONCE} at once {_line(seconds, rss_bytes)}")


def _request(name: str) -> dict[str, str]:
    return {"model": MODELS[name], "gpu": CARD}


def _cold(model: str) -> str:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "planner.probe"]
    asked = json.dumps({"model": model, "gpu": CARD})
    subprocess.run(command, input=asked, text=True, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return _line(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, after.ru_maxrss * 1024)


def _warm_up() -> None:
    from planner.probe.__main__ import be_quiet  # noqa: PLC0415  # torch comes after its card
    from planner.probe.devices.virtual_card import insert_any_card  # noqa: PLC0415  # torch comes after its card

    be_quiet()
    insert_any_card()


def _start(name: str) -> int:
    """Fork a child that makes the dry run and ends; its process id."""
    child_id = os.fork()
    if child_id:
        return child_id
    from planner.probe.__main__ import measured  # noqa: PLC0415  # torch comes after its card
    from planner.probe.options import Options  # noqa: PLC0415  # torch comes after its card
    from planner.probe.progress import Silence  # noqa: PLC0415  # torch comes after its card
    from planner.request.schema import Request  # noqa: PLC0415  # the same

    status = 1
    try:
        status = 0 if measured(Request.parse(_request(name)), Options(), Silence()).outcome == "ok" else 1
    finally:
        os._exit(status)


def _ended(child_id: int) -> tuple[float, int]:
    """CPU seconds and most resident bytes of a child."""
    _, status, used = os.wait4(child_id, 0)
    if status:
        raise SystemExit(f"a dry run ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _forked(name: str) -> tuple[float, int]:
    return _ended(_start(name))


def _line(seconds: float, rss_bytes: int) -> str:
    return f"{seconds:8.2f} {rss_bytes / MIB:9,.0f}"


if __name__ == "__main__":
    main()
