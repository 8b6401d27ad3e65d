"""Behind a real nginx on the same machine that tells nothing: no token, no probe."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.service.harness import ROOT, document, free_port, wait_until
from tests.service.test_access import LOCKED
from tests.service.test_serve import PROGRAM, answers, serving

# What an operator may write: nothing at all, the name the server goes by here, and what nginx itself connected to.
HOSTS = {
    "bare": "",
    "localhost": "proxy_set_header Host localhost;",
    "loopback": "proxy_set_header Host 127.0.0.1:8000;",
    "its own": "proxy_set_header Host $http_host;",
}
CONF = """
daemon off; pid {folder}/pid; error_log {folder}/error;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {servers}
}}
"""


@contextmanager
def nginx(folder: Path, upstream: str) -> Iterator[list[str]]:
    """One nginx with a front for each way to pass the name on; yields their addresses, on IPv4 and on IPv6."""
    folder.mkdir()
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert program, "make test installs nginx"
    fronts, servers = [], ""
    for header in HOSTS.values():
        port = free_port()
        fronts += [f"http://127.0.0.1:{port}", f"http://[::1]:{port}"]
        listens = f"listen 127.0.0.1:{port}; listen [::1]:{port};"
        servers += f"server {{ {listens} location / {{ proxy_pass {upstream}; {header} }} }}\n"
    conf = folder / "nginx.conf"
    conf.write_text(CONF.format(folder=folder, servers=servers))
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        yield fronts
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_stranger_behind_a_bare_proxy_gets_no_probe_and_the_owner_does(tmp_path: Path, host: str) -> None:
    with serving(tmp_path, FITPROOF_HOST=host, FITPROOF_LOCAL_ACCESS="no") as (_process, client):
        upstream = f"http://{f'[{host}]' if ':' in host else host}:{client.base_url.port}"
        client.base_url = httpx.URL(upstream)
        wait_until(lambda: answers(client, "/readyz"), 30, (tmp_path / "log").read_text)
        with nginx(tmp_path / "nginx", upstream) as fronts, httpx.Client() as stranger:
            for front in fronts:
                wait_until(lambda front=front: answers(stranger, f"{front}/healthz"), 10)
                for method, path in LOCKED:
                    body = document() if (method, path) == LOCKED[0] else None
                    assert stranger.request(method, front + path, json=body).status_code == 401, (front, method, path)
                assert stranger.get(f"{front}/probes").status_code == 401
                assert stranger.get(f"{front}/api/v1/gpus").status_code == 200
        link = program(tmp_path, "token", "--local").strip()
        assert (tmp_path / f"local-access.{client.base_url.port}").stat().st_mode & 0o777 == 0o600
        assert link.rpartition("=")[2] not in (tmp_path / "log").read_text()
        browser = httpx.Client(follow_redirects=True)
        assert [browser.get(address).status_code for address in (link, f"{upstream}/probes")] == [200, 200]
        wait_until(lambda: bool(client.get("/api/v1/workers").json()["items"]), 20)
        run = (
            "probe",
            "Qwen/Qwen2.5-0.5B",
            "rtx-4090",
            "--server",
            upstream,
            "--on",
            "dry-run",
            "--memory-limit",
            "1GB",
        )
        assert "needs a token" not in program(tmp_path, *run)
        assert browser.get(f"{upstream}/probes").text.count("/probes/") >= 1


def program(folder: Path, *words: str) -> str:
    environment = {**os.environ, "FITPROOF_DATA_DIR": str(folder), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return ended.stdout + ended.stderr if ended.returncode else ended.stdout
