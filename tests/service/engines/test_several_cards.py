"""Probes of a run on several cards: which instrument plays them, and what is refused when it is ordered."""

from pathlib import Path

from tests.service.desk import printed
from tests.service.fakes.fake_engine import FakeEngine
from tests.service.harness import document
from tests.service.test_probes_api import PROBES, fields, serving


def test_several_cards_are_played_by_a_dry_run_and_by_nothing_else(tmp_path: Path) -> None:
    with serving(tmp_path, FakeEngine(answer=printed(3))) as client:
        several = document() | {"gpus": 2, "method": "full", "fsdp": {}, "training": {"optim": "adamw_torch_fused"}}
        assert client.post(PROBES, json=several | {"instrument": "auto"}).json()["instrument"] == "dry-run"
        assert fields(client.post(PROBES, json=several | {"instrument": "cuda"})) == {"instrument"}
        assert fields(client.post(PROBES, json=several | {"training": {"optim": "adamw_8bit"}})) == {"training.optim"}
