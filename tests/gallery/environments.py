"""An environment for each trainer that needs other packages: they come first, Fitproof's own stand behind them."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

LISTS = Path(__file__).parent / "environments"


def environment(name: str, folder: Path) -> Path:
    """The folder of the programs of environment `name`, made in `folder` where it is not there yet.

    torch and what else is not in its list are those of Fitproof's environment, so that each costs some 100 MB.

    Raises:
        subprocess.CalledProcessError: a package cannot be installed; `stderr` says why.
    """
    if not name:
        return Path(sys.executable).parent
    place = folder / name
    done = place / "installed.txt"
    wanted = (LISTS / f"{name}.txt").read_text()
    if not done.exists() or done.read_text() != wanted:
        venv.create(place, clear=True, with_pip=False)
        shared = sysconfig.get_path("purelib")
        own = Path(sysconfig.get_path("purelib", vars={"base": str(place), "platbase": str(place)}))
        (own / "shared.pth").write_text(f"{shared}\n")
        # --no-deps: each list is complete, and NVIDIA's libraries, which torch's wheel asks for, stay out.
        # Without build isolation, as some builds import torch.
        install = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install", "-q", "--no-deps"]
        command = [*install, "--no-build-isolation", "--no-compile", "-r", str(LISTS / f"{name}.txt")]
        subprocess.run(command, check=True, capture_output=True, text=True)
        done.write_text(wanted)
    return place / "bin"


def release(package: str, programs: Path) -> str:
    """The release of `package` that a program of this environment imports."""
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([programs / "python", "-c", ask], check=True, capture_output=True, text=True)
    return done.stdout.strip()
