"""The CUDA meter over stand-ins. No CUDA device has run it yet: what is proved here is the arithmetic and the order."""

import itertools
from contextlib import suppress

import pytest

from planner.probe.meters.cuda import CudaMeter, tokens_per_second
from planner.probe.meters.nvml import DriverReader
from planner.units import MIB
from tests.probe.fake_cuda import FakeCore, FakeCuda, FakeDriver


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def library(cuda):
    return FakeDriver(cuda=cuda)


def meter_over(cuda, library, **settings):
    driver = DriverReader(library, process_id=77)
    return CudaMeter(
        cuda=cuda, core=FakeCore(cuda, workspaces=0), driver=driver, clock=itertools.count().__next__, **settings
    )


def test_each_phase_has_its_own_peaks_and_what_stays(cuda, library):
    with meter_over(cuda, library) as meter:
        meter.begin("load")
        cuda.allocator.free(cuda.allocate(30 * MIB))
        cuda.allocate(20 * MIB)
        meter.begin("forward")
        cuda.allocator.free(cuda.allocate(40 * MIB))
    load, forward = meter.readings()
    assert (load.peak_allocated_bytes, load.peak_reserved_bytes, load.resident_bytes) == (
        30 * MIB, 30 * MIB, 20 * MIB,
    )  # fmt: skip
    assert (forward.peak_allocated_bytes, forward.resident_bytes) == (60 * MIB, 20 * MIB)


def test_a_phase_that_returns_is_merged_with_its_worst_peak_and_all_its_seconds(cuda, library):
    with meter_over(cuda, library) as meter:
        for size_mib in (10, 40, 20):
            meter.begin("forward")
            cuda.allocator.free(cuda.allocate(size_mib * MIB))
            meter.begin("backward")
    forward = meter.readings()[0]
    assert forward.peak_allocated_bytes == 40 * MIB
    assert forward.seconds == 3.0


def test_the_phase_under_way_is_known_after_the_end(cuda, library):
    with meter_over(cuda, library) as meter:
        for phase in ("forward", "optimizer", "forward"):
            meter.begin(phase)
    assert meter.phase == "forward"


def test_the_device_is_waited_for_before_each_reading(cuda, library):
    with meter_over(cuda, library) as meter:
        meter.begin("load")
        meter.begin("forward")
    assert cuda.synchronized == 2


def test_a_look_at_the_phase_under_way_waits_for_nothing_and_changes_nothing(cuda, library):
    with meter_over(cuda, library) as meter:
        assert meter.now() is None
        meter.begin("load")
        cuda.allocator.free(cuda.allocate(30 * MIB))
        cuda.allocate(20 * MIB)
        seen = meter.now()
        assert (seen.name, seen.peak_allocated_bytes, seen.resident_bytes) == ("load", 30 * MIB, 20 * MIB)
        assert cuda.synchronized == 0
    assert meter.readings()[0].peak_allocated_bytes == 30 * MIB


def test_each_end_of_a_phase_is_told(cuda, library):
    told = []
    with meter_over(cuda, library, tell=lambda reading, ended: told.append((reading.name, ended))) as meter:
        meter.begin("load")
        meter.begin("forward")
    assert told == [("load", True), ("forward", True)]


def test_the_context_is_what_the_driver_books_beyond_the_allocator(cuda, library):
    with meter_over(cuda, library) as meter:
        meter.begin("load")
        library.context_bytes = 450 * MIB
        cuda.allocate(30 * MIB)
        meter.begin("forward")
        library.context_bytes = 500 * MIB  # kernels load lazily
    assert meter.process_bytes == 530 * MIB
    assert meter.context_bytes == 500 * MIB
    assert library.closed


def test_inside_a_container_the_growth_of_the_cards_use_is_read_and_said(cuda, library):
    library.lists_process = False
    with meter_over(cuda, library) as meter:
        meter.begin("load")
        library.context_bytes = 450 * MIB
        cuda.allocate(30 * MIB)
    assert meter.process_bytes == 480 * MIB
    assert any("does not list this process" in note for note in meter.notes)


def test_a_virtual_card_that_lists_no_processes_is_read_the_same_way(cuda, library):
    library.tells = False
    with meter_over(cuda, library) as meter:
        meter.begin("load")
        library.context_bytes = 450 * MIB
    assert meter.process_bytes == 450 * MIB
    assert any("does not list this process" in note for note in meter.notes)


def test_without_nvml_torchs_own_numbers_stand(cuda):
    meter = CudaMeter(cuda=cuda, core=FakeCore(cuda, workspaces=0), driver=None)
    with meter:
        meter.begin("load")
        cuda.allocate(30 * MIB)
    assert meter.readings()[0].peak_allocated_bytes == 30 * MIB
    assert meter.process_bytes is None
    assert meter.device().driver is None


def test_cublas_workspaces_are_found_by_clearing_them(cuda):
    meter = CudaMeter(cuda=cuda, core=FakeCore(cuda), driver=None)
    with meter:
        meter.begin("load")
    assert meter.cublas_workspace_bytes == 2 * 8_519_680


def test_a_snapshot_is_written_even_when_the_step_fails(cuda, library, tmp_path):
    meter = meter_over(cuda, library, snapshot=tmp_path / "snapshot.pickle")
    with suppress(cuda.OutOfMemoryError), meter:
        meter.begin("load")
        raise cuda.OutOfMemoryError
    assert cuda.dumped == [str(tmp_path / "snapshot.pickle")]
    assert cuda.recording[-1] == ((None,), {})


def test_the_card_describes_itself(cuda, library):
    with meter_over(cuda, library) as meter:
        meter.begin("load")
    device = meter.device()  # also when NVML is closed again
    assert (device.name, device.compute_capability, device.driver) == ("Fake H100", "9.0", "580.65")


def test_a_slice_of_a_card_is_refused_by_name(library):
    reader = DriverReader(library)
    with pytest.raises(LookupError, match="GPU-other"):
        reader.select("GPU-other")


def test_throughput_counts_steady_phases_only(cuda, library):
    with meter_over(cuda, library) as meter:
        for phase in ("first_forward", "forward", "backward"):
            meter.begin(phase)
    assert tokens_per_second(meter.readings(), ("forward", "backward"), 4096) == 2048.0
    assert tokens_per_second((), ("forward",), 4096) is None
