"""`fitproof probe` against a small program that speaks the probe's protocol, and once against the real one."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from app.cli import app
from app.cli.probe import measuring
from app.cli.probe.measuring import ProbeRun
from planner.errors import FitproofError
from planner.request.schema import Request
from tests.app.hub_server import CONFIG

RUN = ("meta-llama/Llama-2-7b-hf", "rtx-4090")
MEASURED: dict[str, Any] = {
    "version": 1, "instrument": "dry-run", "outcome": "ok", "failed_phase": None, "short_bytes": None,
    "peak_allocated_bytes": 5_000_000_000, "peak_reserved_bytes": 5_500_000_000,
    "phases": [
        {"name": "load", "peak_allocated_bytes": 4_000_000_000, "resident_bytes": 3_900_000_000},
        {"name": "backward", "peak_allocated_bytes": 5_000_000_000, "resident_bytes": 3_900_000_000},
    ],
}  # fmt: skip

PROGRAM = """
import json, sys
request = json.load(sys.stdin)
json.dump({"arguments": sys.argv[1:], "request": request}, open(%(seen)r, "w"))
for stage, index in (("import", 0), ("load", 0), ("prepare", 0), ("step", 1), ("step", 2), ("step", 3), ("save", 0)):
    print(json.dumps({"stage": stage, "index": index, "seconds": 0.1}), file=sys.stderr, flush=True)
print("a word that is no progress", file=sys.stderr)
%(ending)s
"""


@pytest.fixture
def probe_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Replace the probe's program by one that ends as told; returns what it was given, once it ran."""

    def install(ending: str) -> Path:
        program, seen = tmp_path / "probe.py", tmp_path / "seen.json"
        program.write_text(PROGRAM % {"seen": str(seen), "ending": ending})
        monkeypatch.setattr(measuring, "PROGRAM", (sys.executable, str(program)))
        monkeypatch.setattr(measuring, "missing_packages", list)
        return seen

    return install


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["probe", *words])


def prints(measurement: dict[str, Any]) -> str:
    return f"print('chatter'); print({json.dumps(json.dumps(measurement))})"


def test_the_measurement_stands_beside_the_prediction(probe_that: Any) -> None:
    seen = probe_that(prints(MEASURED))
    result = run(*RUN, "--on", "dry-run", "--routing", "skewed", "--length", "512")
    assert result.exit_code == 0, result.output
    assert "Measured on dry-run: 4.66 GiB allocated at the peak, 5.12 GiB reserved, of 23.52 GiB" in result.stdout
    for word in ("predicted", "measured", "difference", "load", "backward", "peak", "5,000,000,000", "%"):
        assert word in result.stdout
    given = json.loads(seen.read_text())
    assert given["arguments"] == ["--on", "dry-run", "--routing", "skewed"]
    assert Request.parse(given["request"]).training.max_length == 512


def test_json_is_the_measurement(probe_that: Any) -> None:
    probe_that(prints(MEASURED))
    assert json.loads(run(*RUN, "--json").stdout) == MEASURED


def test_out_of_memory_is_an_answer(probe_that: Any) -> None:
    oom = {"outcome": "out_of_memory", "failed_phase": "backward", "short_bytes": 3 << 29}
    probe_that(prints(MEASURED | oom))
    result = run(*RUN, "--on", "cuda")
    assert result.exit_code == 1
    assert "Out of memory in backward, 1.50 GiB short" in result.stdout


def test_a_measurement_beyond_the_card_does_not_fit(probe_that: Any) -> None:
    probe_that(prints(MEASURED | {"peak_reserved_bytes": 30 << 30}))
    assert run(*RUN).exit_code == 1


def test_an_architecture_without_formulas_is_measured_all_the_same(probe_that: Any, tmp_path: Path) -> None:
    seen = probe_that(prints(MEASURED))
    (tmp_path / "config.json").write_text('{"model_type": "perceiver-of-tomorrow", "hidden_size": 8}')
    result = run(str(tmp_path), "4090")
    assert result.exit_code == 0, result.output
    assert "no prediction to compare with" in result.stdout
    assert json.loads(seen.read_text())["request"]["model"]["model_type"] == "perceiver-of-tomorrow"


def test_a_folder_reaches_the_probe_as_its_config(probe_that: Any, tmp_path: Path) -> None:
    seen = probe_that(prints(MEASURED))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert run(str(tmp_path), "4090").exit_code == 0
    assert json.loads(seen.read_text())["request"]["model"]["hidden_size"] == CONFIG["hidden_size"]


def test_a_request_that_the_probe_cannot_use_is_bad_input(probe_that: Any) -> None:
    probe_that("sys.exit(2)")
    result = run(*RUN)
    assert result.exit_code == 2
    assert "a word that is no progress" in result.stderr


def test_broken_machinery_is_neither_a_verdict_nor_bad_input(probe_that: Any) -> None:
    probe_that("sys.exit(1)")
    result = run(*RUN)
    assert result.exit_code == 70
    assert "The probe failed: a word that is no progress" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_instrument_is_named() -> None:
    result = run(*RUN, "--on", "tpu")
    assert result.exit_code == 2
    assert "--on: must be dry-run, cpu or cuda; got tpu" in result.stderr


def test_a_light_install_says_how_to_get_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "missing_packages", lambda: ["torch", "peft"])
    with pytest.raises(FitproofError) as caught:
        ProbeRun("cpu", {})
    (problem,) = caught.value.problems
    assert problem.message == "torch, peft not installed; pip install 'fitproof[probe]'"


def test_the_bar_moves_by_stages_and_shows_the_bytes_of_the_phase_under_way() -> None:
    assert measuring.moved_by({"stage": "load", "index": 0})["description"] == "load"
    line = {"phase": "first_backward", "peak_allocated_bytes": 5 << 30, "allocated_bytes": 0, "ended": False}
    assert measuring.moved_by(line) == {"read": "5.00 GiB in first backward"}
