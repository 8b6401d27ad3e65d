"""A real PostgreSQL server in a temporary folder, on a Unix socket alone. It refuses to run as root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

# Debian keeps the server's programs off the PATH, one folder per version.
_PLACES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
_USER = "fitproof"


def running_postgres() -> Iterator[str]:
    """Yield the server's URL; the database in it is `postgres`."""
    # In /tmp itself: the socket's path has at most 107 characters, and another user must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="fppg", dir="/tmp"))
    folder.chmod(0o755)
    data = folder / "data"
    data.mkdir()
    other = _unprivileged(data)
    options = f"-k {folder} -c listen_addresses='' -c fsync=on -c max_connections=120"
    try:
        _run(other, "initdb", "-D", str(data), "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        _run(other, "pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", options, "start", folder=data)
        yield f"postgresql://{_USER}@/postgres?host={quote(str(folder))}"
    finally:
        _run(other, "pg_ctl", "-D", str(data), "-m", "immediate", "stop", check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged(data: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    os.chown(data, nobody.pw_uid, nobody.pw_gid)
    os.chown(data.parent, nobody.pw_uid, nobody.pw_gid)
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def _run(other: list[str], program: str, *arguments: str, check: bool = True, folder: Path = Path("/tmp")) -> None:
    path = shutil.which(program) or next(str(p) for place in _PLACES if (p := place / program).exists())
    output = subprocess.DEVNULL if program == "pg_ctl" else subprocess.PIPE
    run = subprocess.run([*other, path, *arguments], cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
    assert run.returncode == 0 or not check, run.stdout
