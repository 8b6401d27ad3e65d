"""What the gallery's dry runs said: one JSON line for each program, and the README's table of them."""

import json
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from planner.units import format_gib

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE / "results.jsonl"
START, END = "<!-- make test-trainers -->\n", "<!-- end -->"
WORDS = {"fits": "fits", "tight": "tight", "does_not_fit": "does not fit"}


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of programs.toml, whose head says what each field means."""

    name: str
    package: str
    gpu: str
    command: list[str]
    gpus: int = 1
    environment: str = ""
    options: list[str] = field(default_factory=list)
    measured_bytes: int = 0
    measured: str = ""
    source: str = ""

    def words(self) -> list[str]:
        """The command, the folders filled in."""
        return [word.format(programs=HERE / "programs", configs=HERE / "configs") for word in self.command]


@dataclass(frozen=True, kw_only=True)
class Result:
    """`verdict` is None where there is no answer, and `why` says so. Bytes are those of the worst rank."""

    name: str
    release: str
    torch: str
    cards: str
    verdict: str | None = None
    why: str = ""
    steps: int = 0
    peak_allocated_bytes: int = 0
    peak_reserved_bytes: int = 0
    total_bytes: int = 0
    phase: str = ""
    processor_seconds: int = 0
    notes: list[str] = field(default_factory=list)


def programs() -> list[Program]:
    """All programs, in the file's order."""
    return [Program(**row) for row in tomllib.loads((HERE / "programs.toml").read_text())["program"]]


def results() -> dict[str, Result]:
    """By the program's name."""
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    return {row["name"]: Result(**row) for row in map(json.loads, lines)}


def keep(found: dict[str, Result]) -> None:
    """Write the results and the README's table, in the order of the programs."""
    rows = [found[program.name] for program in programs() if program.name in found]
    RESULTS.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    readme = (ROOT / "README.md").read_text()
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    (ROOT / "README.md").write_text(f"{before}{START}{table(rows)}{END}{after}")


def table(rows: list[Result]) -> str:
    """Markdown, with its line ends: what each trainer's program took, and what real cards measured of some."""
    head = "| program | release | torch | cards | answer | allocated, reserved | processor |\n"
    return head + "|---|---|---|---|---|---|---|\n" + "".join(f"{_row(row)}\n" for row in rows) + _beside_measured(rows)


def _beside_measured(rows: list[Result]) -> str:
    """The programs that somebody ran on real cards."""
    wanted = {program.name: program for program in programs() if program.measured_bytes}
    lines = [_difference(wanted[row.name], row) for row in rows if row.name in wanted and row.verdict]
    head = "\n| beside real cards | dry run | measured | difference |\n|---|---|---|---|\n"
    return head + "".join(lines) if lines else ""


def _difference(program: Program, row: Result) -> str:
    found = {"allocated": row.peak_allocated_bytes, "reserved": row.peak_reserved_bytes}[program.measured]
    percent = 100 * (found / program.measured_bytes - 1)
    told = f"[{format_gib(program.measured_bytes)}]({program.source})"
    return f"| {row.name}, {row.cards}, {program.measured} | {format_gib(found)} | {told} | {percent:+.1f} % |\n"


def _row(row: Result) -> str:
    cells = [row.name, row.release, row.torch, row.cards]
    if row.verdict is None:
        why = " ".join(row.why.split())
        return f"| {' | '.join(cells)} | no: {why} | | |"
    bytes_told = f"{format_gib(row.peak_allocated_bytes)}, {format_gib(row.peak_reserved_bytes)}"
    return f"| {' | '.join(cells)} | {WORDS[row.verdict]} | {bytes_told} | {row.processor_seconds} s |"
