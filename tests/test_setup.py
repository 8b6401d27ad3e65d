"""The environment that `make` installs is the one constraints.txt names: complete, and without NVIDIA's libraries."""

import re
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path(__file__).parents[1] / "constraints.txt"
# What torch's CUDA wheel asks for and a virtual card stands in for.
NVIDIA = re.compile(r"nvidia-(?!ml-py$)|cuda-(bindings|toolkit|pathfinder)$")
EXTRAS = {"fitproof": {"", "probe"}}


def locked_parts() -> dict[str, list[Requirement]]:
    """Requirements by the heading they stand under."""
    parts: dict[str, list[Requirement]] = {}
    heading = ""
    for line in LOCK.read_text().splitlines():
        if line.startswith("# "):
            heading = line
        elif line:
            parts.setdefault(heading, []).append(Requirement(line))
    return parts


def locked() -> dict[str, str]:
    return {
        canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
        for part in locked_parts().values()
        for requirement in part
    }


def installed() -> dict[str, str]:
    return {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}


def needs(name: str, requires: list[str] | None) -> list[str]:
    """Canonical names of what a distribution needs here, NVIDIA's libraries left out."""
    found = [Requirement(text) for text in requires or []]
    extras = EXTRAS.get(name, {""})
    wanted = [need for need in found if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras)]
    return [canonicalize_name(need.name) for need in wanted if not NVIDIA.match(canonicalize_name(need.name))]


def test_every_package_that_an_installed_one_needs_is_in_the_lock():
    missing = {
        f"{found.metadata['Name']} needs {need}"
        for found in distributions()
        if canonicalize_name(found.metadata["Name"]) in locked()
        for need in needs(canonicalize_name(found.metadata["Name"]), found.requires)
        if need not in locked()
    }
    assert not missing


def test_what_is_installed_is_what_the_lock_names():
    here = installed()
    named = locked()
    assert {name: here[name] for name in named if name in here} == {name: named[name] for name in named if name in here}


def test_every_part_of_the_lock_is_exact_and_named_once():
    names = [canonicalize_name(requirement.name) for part in locked_parts().values() for requirement in part]
    assert len(names) == len(set(names))
    assert all(str(r.specifier).startswith("==") for part in locked_parts().values() for r in part)


def test_the_dry_run_environment_has_no_library_of_nvidias():
    assert not [name for name in installed() if NVIDIA.match(name)]
