"""Child processes on this machine: started once, kept within limits, never left behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.engines.base import EngineRefusedError, Job, LogsLostError, Status
from app.engines.devices import LocalGpu, read_gpu_table
from app.engines.environment import probe_environment
from app.engines.local import LocalEngine, LocalSetup
from app.engines.logfile import PAGE_BYTES, page_of
from app.jobs.dispatch.scheduling import card_named
from tests.service.fakes import fake_probe, fake_warm
from tests.service.fakes.fake_probe import BABBLING, GREEDY, HANG, QUICK, STUBBORN
from tests.service.harness import document, is_running, journal, wait_until
from tests.service.web import no_gpus

TESLA = LocalGpu("GPU-1", "NVIDIA A100-SXM4-80GB", 81920 << 20, "8.0", "570.1")


def engine_in(folder: Path, **changes: object) -> LocalEngine:
    program = (sys.executable, fake_probe.__file__, str(folder / "journal"))
    given = {"program": program, "missing": lambda: (), "gpus": no_gpus, **changes}
    return LocalEngine(folder / "probes", LocalSetup(**given))  # type: ignore[arg-type]  # a test's own spelling


def job(behaviour: int = QUICK, ref: str = "a-1", seconds: int = 30, **changes: object) -> Job:
    given = {"worker": "local:cpu", "kind": "cpu", "arguments": ("--on", "dry-run"), **changes}
    text = json.dumps(document(behaviour))
    return Job(ref=ref, document=text, timeout_seconds=seconds, **given)  # type: ignore[arg-type]


async def until_ended(engine: LocalEngine, ref: str = "a-1") -> Status:
    async with asyncio.timeout(20):
        while (status := await engine.status(ref)).phase == "running":
            engine.changed.clear()
            await asyncio.wait([asyncio.create_task(engine.changed.wait())], timeout=0.2)
    return status


def run(act: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await act()

    asyncio.run(main())


def test_a_ref_is_started_once_and_its_output_kept_whole(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path)
        await asyncio.gather(*(engine.submit(job()) for _ in range(3)))
        assert await until_ended(engine) == Status("succeeded")
        await engine.submit(job())
        page = await engine.logs("a-1", 0)
        assert json.loads(page.lines[-1])["outcome"] == "ok"
        assert (await engine.logs("a-1", page.next_offset)).lines == ()

    run(act)
    assert len(journal(tmp_path, "start", 1)) == 1


def test_an_attempt_nobody_started_is_absent_and_forgotten_ones_leave_no_files(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path)
        assert (await engine.status("a-1")).phase == "absent"
        await engine.submit(job())
        await until_ended(engine)
        await engine.forget("a-1")
        assert (await engine.status("a-1")).phase == "absent"
        assert list((tmp_path / "probes").iterdir()) == []
        with pytest.raises(LogsLostError):
            await engine.logs("a-1", 0)

    run(act)


@pytest.mark.parametrize(
    ("behaviour", "words"), [(GREEDY, "of host memory; the ceiling is 0.06 GiB"), (BABBLING, "printing more than 64")]
)
def test_a_probe_that_takes_too_much_is_ended(tmp_path: Path, behaviour: int, words: str) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path, memory_bytes=64 << 20)
        await engine.submit(job(behaviour))
        status = await until_ended(engine)
        assert status.phase == "failed"
        assert words in status.reason

    run(act)


def test_a_probe_is_told_what_it_may_take(tmp_path: Path) -> None:
    said = "import os, sys; sys.stdin.read(); print(os.environ.get('FITPROOF_PROBE_MEMORY_BYTES'))"

    async def act() -> None:
        engine = engine_in(tmp_path, memory_bytes=64 << 20, program=(sys.executable, "-c", said))
        await engine.submit(job())
        assert await until_ended(engine) == Status("succeeded")
        assert (await engine.logs("a-1", 0)).lines == (str(64 << 20),)

    run(act)


def test_a_probe_over_its_memory_gets_no_time_to_take_more(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path, memory_bytes=64 << 20)
        await engine.submit(job(STUBBORN))
        assert "of host memory" in (await until_ended(engine)).reason

    run(act)
    assert journal(tmp_path, "start", 1)
    assert not journal(tmp_path, "end", 1)  # it takes 1.25 GiB within a second, and then comes to its end


def test_stopping_the_server_ends_its_probes_and_they_count_as_lost(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path)
        await engine.submit(job(HANG))
        wait_until(lambda: bool(journal(tmp_path, "start", 1)), 15)
        await engine.close()
        assert (await engine_in(tmp_path).status("a-1")).phase == "lost"

    run(act)
    assert not is_running(journal(tmp_path, "start", 1)[0])


def test_what_a_dead_server_left_is_ended_before_the_attempt_counts_as_lost(tmp_path: Path) -> None:
    async def act() -> None:
        first, second = engine_in(tmp_path), engine_in(tmp_path)
        await first.submit(job(HANG))
        wait_until(lambda: bool(journal(tmp_path, "start", 1)), 15)
        assert (await second.status("a-1")).phase == "running"
        wait_until(lambda: not is_running(journal(tmp_path, "start", 1)[0]), 5)
        assert (await second.status("a-1")).phase == "lost"
        await until_ended(first)

    run(act)


def test_a_program_that_is_not_there_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path, program=("/nowhere/python",))
        try:
            await engine.submit(job())
        except EngineRefusedError as error:
            assert "cannot be started" in str(error)  # noqa: PT017 (without setpriv the start itself fails)
        else:
            assert (await until_ended(engine)).phase == "failed"

    run(act)


def test_cards_become_workers_and_a_probe_sees_its_own_card_only(tmp_path: Path) -> None:
    async def gpus() -> tuple[LocalGpu, ...]:
        return (TESLA,)

    async def act() -> None:
        engine = engine_in(tmp_path, gpus=gpus, card_of=card_named, program=(sys.executable, "-c", SHOW))
        processor, card = await engine.capacity()
        assert (processor.kind, card.kind, card.card, card.slots) == ("cpu", "gpu", "a100-sxm-80gb", 1)
        await engine.submit(job(ref="gpu-1", worker=card.id, kind="gpu"))
        await engine.submit(job(ref="cpu-1"))
        assert [(await until_ended(engine, ref)).phase for ref in ("gpu-1", "cpu-1")] == ["succeeded"] * 2
        assert (await engine.logs("gpu-1", 0)).lines == ("GPU-1",)
        assert (await engine.logs("cpu-1", 0)).lines == ("nothing",)

    run(act)


SHOW = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'] or 'nothing')"


def test_without_the_probe_extra_there_is_no_worker(tmp_path: Path) -> None:
    async def act() -> None:
        assert await engine_in(tmp_path, missing=lambda: ("torch",)).capacity() == ()

    run(act)


def test_a_probe_inherits_no_secret_unless_it_reads_the_hub() -> None:
    environment = {
        "PATH": "/bin",
        "HF_HOME": "/models",
        "HF_TOKEN": "hf_x",
        "CUDA_HOME": "/cuda",
        "FITPROOF_DATABASE_URL": "postgresql://u:p@h/d",
        "FITPROOF_RAY_TOKEN": "r",
        "AWS_SECRET_ACCESS_KEY": "s",
        "PYTHON_API_KEY": "k",
        "HF_MY_PASSPHRASE": "p",
        "HTTPS_PROXY": "http://user:secret@proxy",
        "HF_ENDPOINT": "https://user:secret@hub",
        "LD_PRELOAD": "/odd.so",
    }
    seen = probe_environment(needs_hub=False, environment=environment)
    assert seen == {"PATH": "/bin", "HF_HOME": "/models", "CUDA_HOME": "/cuda", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    assert probe_environment(needs_hub=True, environment=environment)["HF_TOKEN"] == "hf_x"
    assert "HF_MY_PASSPHRASE" not in probe_environment(needs_hub=True, environment=environment)


def test_rows_that_nvidia_smi_could_not_fill_are_left_out() -> None:
    table = "GPU-1, NVIDIA A100-SXM4-80GB, 81920, 8.0, 570.1\nGPU-2, NVIDIA X, [N/A], 8.0, 570.1\nUnable to read\n"
    assert read_gpu_table(table) == (TESLA,)


def test_log_pages_end_at_whole_lines_and_never_stall() -> None:
    assert page_of(b"one\ntwo\nthr", 10, ended=False).lines == ("one", "two")
    assert page_of(b"one\nthr", 0, ended=True).lines == ("one", "thr")
    endless = page_of(b"x" * PAGE_BYTES, 0, ended=False)
    assert (endless.next_offset, endless.more) == (PAGE_BYTES, True)
    assert page_of("a\u2028b\n".encode(), 0, ended=False).lines == ("a\u2028b",)
    assert page_of(b"nul\x00 and \xff\n", 0, ended=False).lines == ("nul and \ufffd",)


def test_an_attempt_whose_warm_program_was_killed_is_lost_and_its_child_gone(tmp_path: Path) -> None:
    async def act() -> None:
        engine = engine_in(tmp_path, warm=(sys.executable, fake_warm.__file__))
        await engine.submit(job())
        child_id = int((tmp_path / "probes" / "a-1" / "process").read_text().split()[0])
        os.kill(parent_of(child_id), signal.SIGKILL)
        assert await until_ended(engine) == Status("lost", "the program that forked it was killed")
        assert not is_running(child_id)
        await engine.close()

    run(act)


def parent_of(process_id: int) -> int:
    """Its parent's id, from proc(5)."""
    return int(Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[1])
