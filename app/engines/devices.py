"""What this machine has to run probes on. Asked of nvidia-smi and the import system: the web process has no torch."""

import asyncio
import importlib.util
from dataclasses import dataclass

from app.engines.environment import probe_environment
from planner.units import MIB

# Fields of `nvidia-smi --help-query-gpu`; compute_cap is there from driver 510 on.
_FIELDS = "uuid,name,memory.total,compute_cap,driver_version"
_PROBE_PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LocalGpu:
    """One card as the driver lists it. Its memory is the driver's figure; torch sees a little less."""

    uuid: str
    name: str
    total_memory_bytes: int
    compute_capability: str
    driver: str


def missing_probe_packages() -> tuple[str, ...]:
    """Packages of the probe extra that this Python lacks. Nothing is imported."""
    return tuple(name for name in _PROBE_PACKAGES if importlib.util.find_spec(name) is None)


async def local_gpus() -> tuple[LocalGpu, ...]:
    """Every card nvidia-smi lists; none where there is no driver or it does not answer."""
    command = ("nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits")
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=probe_environment(needs_hub=False),
        )
    except OSError:
        return ()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ()
    return read_gpu_table(output.decode(errors="replace")) if process.returncode == 0 else ()


def read_gpu_table(text: str) -> tuple[LocalGpu, ...]:
    """Read nvidia-smi's CSV. A row it could not fill (a MIG parent, a card that fell off the bus) is left out."""
    rows = ([cell.strip() for cell in line.split(",")] for line in text.splitlines())
    return tuple(
        LocalGpu(uuid, name, int(mebibytes) * MIB, capability, driver)
        for uuid, name, mebibytes, capability, driver in (row for row in rows if len(row) == len(_FIELDS.split(",")))
        if mebibytes.isdigit()
    )
