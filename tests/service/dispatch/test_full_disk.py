"""A disk that is really full: a small tmpfs of the server's own, in a mount namespace, so that it needs no privileges.

The database and the probes' files are put on it in turn. The kernel itself answers ENOSPC.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.service.fakes.fake_probe import HELD, QUICK
from tests.service.harness import Web, document, journal, wait_until

PROBES = "/api/v1/probes"
# Room for the database and the log of one probe (app/engines/process.py), so that a full disk is soon filled.
DISK = "size=96m"


class SmallDisk:
    """A server whose data folder is a disk of its own, seen from here through /proc."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.folder = Path(f"/proc/{web.process.pid}/root{web.folder}")

    def fill(self) -> None:
        with (self.folder / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * 4096)
            except OSError as error:
                assert error.strerror == os.strerror(28)  # noqa: PT017 (only the full disk may end the loop)

    def make_room(self) -> None:
        (self.folder / "filler").unlink()


@contextmanager
def on_a_small_disk(folder: Path, **settings: Any) -> Iterator[SmallDisk]:
    data = folder / "data"
    data.mkdir()
    mount = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    # Root may mount in a namespace of mounts; anybody else is root in a namespace of users first (unshare(1)).
    users = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    namespace = ["unshare", *users, "--mount", "sh", "-c", mount, "sh", DISK, str(data)]
    with Web(data, wrapped_in=namespace, **settings) as web:
        yield SmallDisk(web)


def problem_of_the_worker(web: Web) -> str:
    (worker,) = web.client.get("/api/v1/workers").json()["items"]
    return worker["problem"] or ""


def test_a_full_disk_under_the_database_refuses_clearly_and_loses_nothing(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path) as disk:
        web, hold = disk.web, disk.folder / "hold"
        hold.touch()
        running, queued = web.submit(HELD, mark=1), web.submit(QUICK, mark=2)
        web.wait_for(running, {"running"})
        wait_until(lambda: bool(journal(disk.folder, "start", 1)), 10)
        disk.fill()
        refused = web.client.post(PROBES, json=document(mark=3))
        assert (refused.status_code, refused.json()["code"]) == (503, "storage_unavailable")
        assert "is full; nothing was recorded" in refused.json()["title"]
        assert web.client.delete(f"{PROBES}/{queued}").status_code == 503
        assert web.get(queued)["state"] == "queued"
        assert web.client.post("/api/v1/plans", json={"model": "Qwen/Qwen2.5-0.5B", "gpu": "4090"}).status_code == 200
        disk.make_room()
        hold.unlink()
        assert [web.wait_for(probe)["state"] for probe in (running, queued)] == ["succeeded"] * 2
        assert web.wait_for(web.submit(QUICK, mark=4))["state"] == "succeeded"
        assert journal(disk.folder, "start", 3) == []
        assert [len(journal(disk.folder, "start", mark)) for mark in (2, 4)] == [1, 1]
        assert len(web.client.get("/api/v1/evidence").text.splitlines()) == 3


def test_a_probe_whose_output_found_no_room_runs_again_when_there_is_some(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path, database_url=f"sqlite:///{tmp_path}/elsewhere.sqlite3") as disk:
        web, hold = disk.web, disk.folder / "hold"
        hold.touch()
        probe = web.submit(HELD)
        wait_until(lambda: bool(journal(disk.folder, "start", 1)), 10)
        disk.fill()
        hold.unlink()
        wait_until(lambda: "is full; probes wait until 64 MiB are free" in problem_of_the_worker(web), 15, web.complain)
        following = web.submit(QUICK, mark=2)
        disk.make_room()
        final = web.wait_for(probe)
        assert (final["state"], final["attempt"], final["measurement"]["outcome"]) == ("succeeded", 2, "ok")
        notes = [event["data"]["message"] for event in web.events(probe) if event["event"] == "note"]
        assert notes == ["the disk that holds probe files failed it: No space left on device"]
        assert web.wait_for(following)["attempt"] == 1
        wait_until(lambda: problem_of_the_worker(web) == "", 15)
        assert len(web.client.get("/api/v1/evidence").text.splitlines()) == 2


def test_what_is_on_record_can_be_read_on_a_full_disk_and_a_refused_order_may_be_repeated(tmp_path: Path) -> None:
    with on_a_small_disk(tmp_path) as disk:
        web = disk.web
        probe = web.submit(QUICK)
        web.wait_for(probe)
        disk.fill()
        answer = web.client.get(f"{PROBES}/{probe}")
        assert answer.json()["state"] == "succeeded"
        assert "storage_unavailable" in refusal(web).text
        disk.make_room()
        wait_until(lambda: refusal(web).status_code == 202, 15)


def refusal(web: Web) -> httpx.Response:
    return web.client.post(PROBES, json=document(QUICK, mark=9), headers={"Idempotency-Key": "later"})
