"""The pools in C read what the pools in Python read, whatever happens in whatever order."""

import json
import os
import shutil
import subprocess
import sys
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.allocator.caching_allocator import OutOfDeviceMemoryError
from planner.allocator.native_pools import NativePools
from planner.allocator.python_pools import PythonPools
from planner.compilers import zig_compiler
from planner.native_library import built
from planner.units import MIB
from tests.planner.allocator.test_python_pools import MOVES, SIZES

ROOT = Path(__file__).parents[3]
Readings = list[tuple[int, int, int]]


def played(moves: list[int | None], pools: PythonPools | NativePools) -> Readings:
    """What the pools read after each move; the last move is the one that their capacity did not allow."""
    alive: list[int] = []
    readings: Readings = []
    for move in moves:
        try:
            if move is None:
                pools.empty_cache()
            elif move > 0:
                alive.append(pools.allocate(move))
            elif alive:
                pools.free(alive.pop(move % len(alive)))
        except OutOfDeviceMemoryError as error:
            return [*readings, (error.requested_bytes, error.short_bytes, -1)]
        readings.append((pools.allocated_bytes, pools.reserved_bytes, pools.peak_reserved_bytes))
        if len(readings) == 20:
            pools = pools.copy()
    return readings


KINDS = st.fixed_dictionaries({"expandable": st.booleans(), "oldest_first": st.booleans()})


@given(MOVES, KINDS)
@settings(max_examples=500, deadline=None)
def test_any_order_of_tensors_reads_the_same(moves: list[int | None], kind: dict[str, bool]) -> None:
    assert played(moves, NativePools(**kind)) == played(moves, PythonPools(**kind))


@given(MOVES, st.integers(20 * MIB, 400 * MIB), KINDS)
@settings(max_examples=500, deadline=None)
def test_short_of_room_it_gives_back_and_fails_the_same(
    moves: list[int | None], capacity_bytes: int, kind: dict[str, bool]
) -> None:
    readings = [played(moves, kinds(capacity_bytes=capacity_bytes, **kind)) for kinds in (NativePools, PythonPools)]
    assert readings[0] == readings[1]


@given(st.lists(SIZES, min_size=1, max_size=60), st.data(), KINDS)
@settings(max_examples=300, deadline=None)
def test_many_that_go_at_a_time_leave_what_they_leave_one_by_one(
    sizes: list[int], data: st.DataObject, kind: dict[str, bool]
) -> None:
    at_once, one_by_one = NativePools(**kind), NativePools(**kind)
    handles = [pools.allocate_many(array("q", sizes)) for pools in (at_once, one_by_one)]
    gone = data.draw(st.lists(st.sampled_from(range(len(sizes))), unique=True))
    at_once.free_many(array("i", [handles[0][index] for index in gone]))
    for index in gone:
        one_by_one.free(handles[1][index])
    for pools in (at_once, one_by_one):
        pools.allocate_many(array("q", sizes))
        pools.empty_cache()
    assert [at_once.allocated_bytes, at_once.reserved_bytes] == [one_by_one.allocated_bytes, one_by_one.reserved_bytes]


def test_a_copy_lives_on_its_own() -> None:
    pools = NativePools()
    block = pools.allocate(30 * MIB)
    twin = pools.copy()
    pools.free(block)
    assert (pools.allocated_bytes, twin.allocated_bytes) == (0, 30 * MIB)


@pytest.mark.parametrize("expandable", [False, True])
@pytest.mark.parametrize("size_bytes", [1 << 50, 1 << 62, 1 << 63, 1 << 70])
def test_a_tensor_beyond_its_addresses_is_left_to_python(size_bytes: int, expandable: bool) -> None:
    with pytest.raises(OverflowError):
        NativePools(expandable=expandable).allocate(size_bytes)


def test_many_tensors_beyond_its_addresses_are_left_to_python() -> None:
    pools = NativePools()
    with pytest.raises(OverflowError):
        pools.allocate_many(array("q", [1 << 42] * 64))


@pytest.mark.parametrize("beyond", [{"per_device_train_batch_size": 65_536, "max_length": 1 << 24}])
def test_a_plan_beyond_them_is_told_its_exabytes(beyond: dict[str, int]) -> None:
    document = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090", "training": beyond}
    assert planned(document)["required_bytes"]["likely"] > 1 << 50


def test_without_a_compiler_the_answer_is_the_same(tmp_path: Path) -> None:
    document = {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-4090"}
    without = planned(document, XDG_CACHE_HOME=str(tmp_path), CC=str(tmp_path / "none"))
    assert list(tmp_path.rglob("*.so")) == []
    assert without == planned(document)


def test_a_compiler_that_fails_is_asked_once(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "cc").write_text(f"#!/bin/sh\necho asked >> {asked}\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    document = {"model": "Qwen/Qwen2.5-0.5B", "gpu": "rtx-4090"}
    # Set-up may have built the library beside its sources.
    shutil.copytree(ROOT / "planner", tmp_path / "planner", ignore=shutil.ignore_patterns("*.so"))
    for _ in range(2):
        answer = planned(document, tmp_path, XDG_CACHE_HOME=str(tmp_path), CC=str(tmp_path / "cc"))
        assert answer["verdict"] == "fits"
    assert asked.read_text() == "asked\n"


def test_the_compiler_that_comes_as_a_wheel_builds_it_too(tmp_path: Path) -> None:
    assert built(tmp_path, zig_compiler("c")).exists()


def planned(document: dict[str, object], root: Path = ROOT, **environment: str) -> dict[str, object]:
    program = (
        "import json, sys\n"
        "from planner import Request, plan\n"
        "print(json.dumps(plan(Request.parse(json.load(sys.stdin))).to_dict()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(document),
        env=os.environ | environment,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
