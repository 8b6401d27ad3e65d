"""`python -m planner.evidence.published_dry_runs [PART…]`: run published settings on virtual cards, and record them.

With parts of ids, models or releases only those settings; without any, all of them: some minutes of processor for each
model. The environments (1.5 GB each) are kept in the user's cache folder. Run `….report` afterwards for the table.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from planner.evidence.published_dry_runs.environments import cache_folder, environment_of, site_packages
from planner.evidence.published_dry_runs.records import Record, records, write_records
from planner.evidence.published_dry_runs.settings import SCHEDULES, Setting, published_settings
from planner.model.model import resolve_model
from planner.units import MIB

HERE = Path(__file__).parent
VALUES = HERE.parents[1] / "probe" / "values"
# A tuning's dimensions are those of the model it was tuned from.
SAME_SHAPE = {"Qwen/Qwen2.5-Coder-1.5B-Instruct": "Qwen/Qwen2.5-1.5B"}
# torch's total: nvidia-smi's on Windows, as the source says it (15.992 GiB).
CARDS = {
    "t4": "t4",
    "rtx-4080-windows": json.dumps(
        {"name": "NVIDIA GeForce RTX 4080", "total_memory_bytes": 16_376 * MIB, "compute_capability": "8.9"}
    ),
}


def main(parts: Sequence[str]) -> int:
    """Run what the parts name, and keep each load's records as they come."""
    chosen = sorted((setting for setting in published_settings() if _named(setting, parts)), key=_first_cheap)
    for _, group in groupby(chosen, key=_environment_of):
        for done in run([tuple(settings) for _, settings in groupby(group, key=lambda setting: setting.load)]):
            kept = {record.id: record for record in (*records(), *done)}
            write_records(kept[setting.id] for setting in published_settings() if setting.id in kept)
            print(", ".join(record.id for record in done), file=sys.stderr)  # noqa: T201  # progress
    return 0


def run(loads: Sequence[Sequence[Setting]]) -> Iterator[list[Record]]:
    """Loads that share an environment, each with its settings, under all schedules where threads race.

    Raises CalledProcessError where a harness breaks off, its own words on stderr.
    """
    first = loads[0][0].document
    interpreter = environment_of(first["releases"])
    job = {"values": str(VALUES), "loads": [_load(settings) for settings in loads]}
    environment = {**os.environ, **_card(interpreter, first["card"]), "PYTHONPATH": str(HERE)}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [str(interpreter), "-m", "harness"]
    with tempfile.TemporaryFile("w+") as asked:
        json.dump(job, asked)
        asked.seek(0)
        # S603: our own program.
        with subprocess.Popen(command, env=environment, stdin=asked, stdout=subprocess.PIPE, text=True) as harness:  # noqa: S603
            for settings in loads:
                lines = _lines_of_load(harness)
                if not lines:
                    break
                yield [_record(setting, lines) for setting in settings]
    if harness.returncode:
        raise subprocess.CalledProcessError(harness.returncode, command)


def _record(setting: Setting, lines: Sequence[dict[str, Any]]) -> Record:
    return Record.of(setting.id, [line for line in lines if line["id"] == setting.id])


def _lines_of_load(harness: "subprocess.Popen[str]") -> list[dict[str, Any]]:
    """Up to the empty line that ends a load; none where the harness broke off."""
    lines: list[dict[str, Any]] = []
    for line in harness.stdout or ():
        if not line.strip():
            return lines
        if line.startswith("{"):
            lines.append(json.loads(line))
    return []


def _load(settings: Sequence[Setting]) -> dict[str, Any]:
    document = settings[0].document
    names = (document["releases"], document["harness"], document["model"].replace("/", "--"))
    return {
        "settings": [setting.document for setting in settings],
        "config": dict(resolve_model(SAME_SHAPE.get(document["model"], document["model"])).config),
        "checkpoint": str(cache_folder().joinpath("checkpoints", *names)),
        "schedules": list(range(SCHEDULES if settings[0].is_raced else 1)),
    }


def _environment_of(setting: Setting) -> tuple[str, str]:
    return setting.document["releases"], setting.document["card"]


def _first_cheap(setting: Setting) -> tuple[Any, ...]:
    """Settings of one environment together, those of one load together, and loads that do not race first."""
    return _environment_of(setting), setting.is_raced, repr(setting.load)


def _card(interpreter: Path, card: str) -> dict[str, Any]:
    """The variables that put the virtual card under that environment."""
    command = [sys.executable, "-m", "planner.probe.card.environment", str(site_packages(interpreter)), CARDS[card]]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    variables = dict(json.loads(answer.stdout))
    # The forks of a harness are runs of their own, each with the card to itself: no set of processes shares it.
    variables.pop("FITPROOF_CARD_SET", None)
    return variables


def _named(setting: Setting, parts: Sequence[str]) -> bool:
    text = " ".join(str(setting.document[key]) for key in ("id", "model", "releases"))
    return not parts or any(part in text for part in parts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
