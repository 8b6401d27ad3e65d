import pytest

from planner.errors import InvalidRequestError
from planner.probe.limits import MemoryLimit, cap_cuda_allocator, catch_out_of_memory, smallest_surviving_bytes
from planner.units import GIB, MIB
from tests.probe.fake_cuda import FakeCore, FakeCuda

PLAYED = MemoryLimit(limit_bytes=24 * GIB, context_bytes=512 * MIB)


def test_the_smaller_card_pays_for_its_context_first():
    assert PLAYED.allocator_bytes == 24 * GIB - 512 * MIB


def test_a_limit_smaller_than_a_context_is_refused_with_the_fix():
    with pytest.raises(InvalidRequestError) as caught:
        _ = MemoryLimit(256 * MIB, 512 * MIB).allocator_bytes
    assert "0.50 GiB" in caught.value.problems[0].message


def test_the_cap_is_a_fraction_of_the_card_at_hand():
    cuda = FakeCuda()
    cap_cuda_allocator(PLAYED, cuda)
    assert cuda.allocator.capacity_bytes == pytest.approx(PLAYED.allocator_bytes, abs=1)


def test_a_card_cannot_play_a_larger_one():
    with pytest.raises(InvalidRequestError) as caught:
        cap_cuda_allocator(MemoryLimit(96 * GIB, 0), FakeCuda())
    assert "80.00 GiB" in caught.value.problems[0].message


def test_out_of_memory_on_the_device_is_an_answer_with_bytes_asked_and_bytes_short():
    cuda = FakeCuda()
    cap_cuda_allocator(PLAYED, cuda)
    with catch_out_of_memory(cuda, FakeCore(cuda, workspaces=0)) as watch:
        cuda.allocate(20 * GIB)
        cuda.allocate(4 * GIB)
    assert watch.failed
    assert watch.requested_bytes == 4 * GIB
    assert watch.short_bytes == pytest.approx(512 * MIB, abs=1)


def test_without_the_observer_the_message_still_tells_what_was_asked():
    cuda = FakeCuda()
    cap_cuda_allocator(PLAYED, cuda)
    with catch_out_of_memory(cuda, core=None) as watch:
        cuda.allocate(25 * GIB)
    assert (watch.failed, watch.requested_bytes, watch.short_bytes) == (True, 25 * GIB, None)


def test_when_the_card_itself_is_full_the_shortage_is_against_what_is_free():
    cuda = FakeCuda()
    with catch_out_of_memory(cuda, FakeCore(cuda, workspaces=0)) as watch:
        for observer in cuda.observers:
            observer(0, 4 * GIB, 80 * GIB, 3 * GIB)
        raise cuda.OutOfMemoryError("CUDA out of memory.")
    assert (watch.requested_bytes, watch.short_bytes) == (4 * GIB, 1 * GIB)


def test_on_a_whole_card_the_context_beside_the_allocator_is_missing_too():
    cuda = FakeCuda()
    cuda.allocator.allocate(78 * GIB)
    with catch_out_of_memory(cuda, FakeCore(cuda, workspaces=0)) as watch:
        for observer in cuda.observers:
            observer(0, 4 * GIB, 80 * GIB, 1 * GIB)  # 1 GiB of the card is the context's
        raise cuda.OutOfMemoryError("CUDA out of memory.")
    assert watch.short_bytes == 3 * GIB


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_library_that_the_driver_refuses_memory_is_out_of_memory_too(message):
    with catch_out_of_memory(FakeCuda(), None) as watch:
        raise RuntimeError(message)
    assert (watch.failed, watch.requested_bytes, watch.short_bytes) == (True, None, None)


def test_another_error_stays_an_error():
    cuda = FakeCuda()
    with pytest.raises(ZeroDivisionError), catch_out_of_memory(cuda, None):
        _ = 1 / 0


def test_all_well_leaves_nothing_to_tell():
    with catch_out_of_memory(FakeCuda(), None) as watch:
        pass
    assert not watch.failed


def test_the_search_finds_the_smallest_cap_that_survives_to_64_mib():
    tried = []

    def survives(cap_bytes):
        tried.append(cap_bytes)
        return cap_bytes >= 9_480 * MIB

    assert smallest_surviving_bytes(survives, 8 * GIB, 16 * GIB) == 9_536 * MIB  # the next multiple of 64 MiB
    assert len(tried) <= 7
