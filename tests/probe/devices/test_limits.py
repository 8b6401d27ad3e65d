import pytest
import torch

from planner.errors import InvalidRequestError
from planner.probe.devices.memory_limit import (
    MemoryLimit,
    OutOfMemoryWatch,
    catch_out_of_memory,
    smallest_surviving_bytes,
)
from planner.units import GIB, MIB


def test_the_smaller_card_pays_for_its_context_first():
    assert MemoryLimit(limit_bytes=24 * GIB, context_bytes=512 * MIB).allocator_bytes == 24 * GIB - 512 * MIB


def test_a_limit_smaller_than_a_context_is_refused_with_the_fix():
    with pytest.raises(InvalidRequestError) as caught:
        _ = MemoryLimit(256 * MIB, 512 * MIB).allocator_bytes
    assert "0.50 GiB" in caught.value.problems[0].message


@pytest.mark.parametrize(
    ("allowed_bytes", "free_bytes", "short_bytes"),
    [(23 * GIB, 80 * GIB, GIB), (80 * GIB, 3 * GIB, GIB), (80 * GIB, 0, 4 * GIB)],
    ids=["over the cap", "over what is free", "the card is full"],
)
def test_what_is_short_is_the_larger_lack(allowed_bytes, free_bytes, short_bytes):
    watch = OutOfMemoryWatch()
    watch.observe(0, 4 * GIB, allowed_bytes, free_bytes)
    watch.settle("CUDA out of memory.", reserved_bytes=20 * GIB)
    assert (watch.failed, watch.requested_bytes, watch.short_bytes) == (True, 4 * GIB, short_bytes)


def test_without_the_observer_the_message_still_tells_what_was_asked():
    watch = OutOfMemoryWatch()
    watch.settle("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ...", 0)
    assert (watch.failed, watch.requested_bytes, watch.short_bytes) == (True, 2 * GIB, None)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_library_that_the_driver_refuses_memory_is_out_of_memory_too(message):
    with catch_out_of_memory(torch.cuda, None) as watch:
        raise RuntimeError(message)
    assert (watch.failed, watch.requested_bytes, watch.short_bytes) == (True, None, None)


@pytest.mark.parametrize("error", [ZeroDivisionError(), NotImplementedError()])
def test_another_error_stays_an_error(error):
    with pytest.raises(type(error)), catch_out_of_memory(torch.cuda, None):
        raise error


def test_all_well_leaves_nothing_to_tell():
    with catch_out_of_memory(torch.cuda, None) as watch:
        pass
    assert not watch.failed


def test_the_search_finds_the_smallest_cap_that_survives_to_64_mib():
    tried = []

    def survives(cap_bytes):
        tried.append(cap_bytes)
        return cap_bytes >= 9_480 * MIB

    assert smallest_surviving_bytes(survives, 8 * GIB, 16 * GIB) == 9_536 * MIB  # the next multiple of 64 MiB
    assert len(tried) <= 7
