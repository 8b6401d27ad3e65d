"""`fitproof serve` and nothing else: a real 4-bit load-and-step on this processor, through page, API and terminal."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.service.harness import FINAL, ROOT, wait_until
from tests.service.test_serve import PROGRAM, answers, serving

TINY = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}
REQUEST = {"model": TINY, "gpu": "rtx-4090", "training": {"max_length": 64}}


def test_a_small_model_is_proved_on_this_processor(tmp_path: Path) -> None:
    with serving(tmp_path) as (_process, client):
        wait_until(lambda: answers(client, "/readyz"), 30, (tmp_path / "log").read_text)
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 10)
        final = proved_through_the_api(client)
        assert (final["instrument"], final["state"]) == ("cpu", "succeeded")
        measured = {phase["name"] for phase in final["measurement"]["phases"]}
        assert {"load", "forward", "backward", "optimizer", "save"} <= measured
        assert final["measurement"]["versions"]["bitsandbytes"]
        page = client.get(f"/probes/{final['id']}")
        assert page.status_code == 200
        assert "backward" in page.text
        assert proved_from_the_terminal(str(client.base_url))["instrument"] == "dry-run"
        assert len(client.get("/api/v1/evidence").text.splitlines()) == 2


def proved_through_the_api(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/api/v1/probes", json=REQUEST)
    assert answer.status_code == 202, answer.text
    path = answer.headers["location"]
    stages = [line for line in client.get(f"{path}/events", timeout=180).text.splitlines() if '"stage"' in line]
    assert [stage for stage in ("load", "prepare", "step", "save") if not any(stage in line for line in stages)] == []
    wait_until(lambda: client.get(path).json()["state"] in FINAL, 10)
    final: dict[str, Any] = client.get(path).json()
    assert final["state"] == "succeeded", final["error"]
    return final


def proved_from_the_terminal(server: str) -> dict[str, Any]:
    arguments = ["probe", "--request", "-", "--server", server, "--on", "dry-run", "--json"]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    run = subprocess.run(command, cwd=ROOT, input=json.dumps(REQUEST), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    measurement: dict[str, Any] = json.loads(run.stdout)
    return measurement
