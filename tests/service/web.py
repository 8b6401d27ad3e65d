"""A real server process whose local engine runs the fake probe. Arguments: a JSON object of what to set."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import uvicorn

from app.compute.pool import StartTemplate
from app.compute.processes import Template
from app.engines.base import Engine, Job
from app.engines.local import LocalEngine, LocalSetup
from app.engines.ray import RayEngine, RaySetup
from app.main import create_app
from app.settings import Settings
from tests.service.fakes import fake_probe


class DiesAtSubmit(LocalEngine):
    """Ends the server between a probe's claim, which is on record, and its start, with no warning."""

    async def submit(self, job: Job) -> None:  # noqa: ARG002 (the engine's signature)
        os.kill(os.getpid(), signal.SIGKILL)


async def no_gpus() -> tuple[()]:
    return ()


def serve(given: dict[str, Any], start_template: StartTemplate = Template.started) -> None:
    """Serve until the process is ended."""
    folder = Path(given["data_dir"])
    settings = Settings(**{"local_access": True, **given["settings"]}, data_dir=folder)
    program = (sys.executable, fake_probe.__file__, str(folder / "journal"))
    setup = LocalSetup(
        program=program,
        missing=lambda: (),
        gpus=no_gpus,
        cpu_slots=given.get("slots", 1),
    )
    kind = DiesAtSubmit if given.get("dies_at_submit") else LocalEngine
    engine: Engine = kind(folder / "probes", setup)
    if "ray" in given:
        engine = RayEngine(RaySetup(**given["ray"], program=program))
    app = create_app(settings, [engine], start_template)
    uvicorn.run(app, host="127.0.0.1", port=given["port"], log_level="warning", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
