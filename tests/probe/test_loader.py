"""Loading as other releases did it: the same events in another order, and what that does to the allocator."""

from collections import Counter

import pytest

from planner.probe.allocator import CachingAllocator
from planner.probe.loader import by_threads, keeping_cache, without_warmup
from planner.probe.meters.events import Event
from planner.probe.replay import replay
from planner.units import KIB, MIB

COPY = "aten.empty.memory_format"
LAYERS = 22


def linear(first_block, rows, columns):
    """One quantized weight: its 16-bit copy, the packed weight, absmax, and the copy gone."""
    elements = rows * columns
    return [
        Event("alloc", first_block, 2 * elements, COPY),
        Event("alloc", first_block + 1, elements // 2, "bitsandbytes.quantize_4bit.default"),
        Event("alloc", first_block + 2, elements // 16, "bitsandbytes.quantize_4bit.default"),
        Event("free", first_block),
    ]


@pytest.fixture
def tinyllama():
    """TinyLlama-1.1B's load, quantized without double quantization, behind the warm-up block."""
    shapes = [(2048, 5632), (5632, 2048), (5632, 2048), (256, 2048), (2048, 2048), (2048, 2048), (256, 2048)]
    events = [Event("phase", label="load"), Event("alloc", 1, 700 * MIB, "caching_allocator_warmup"), Event("free", 1)]
    events += [Event("alloc", 2, 125 * MIB, COPY), Event("alloc", 3, 125 * MIB, COPY)]
    for index, shape in enumerate(shapes * LAYERS):
        events += linear(4 + 3 * index, *shape)
    return [*events, Event("phase", label="prepare"), Event("empty_cache")]


def resident(events):
    return replay(events, CachingAllocator()).phases[0].resident_bytes


@pytest.mark.parametrize("seed", range(5))
def test_threads_change_the_order_and_nothing_else(tinyllama, seed):
    assert Counter(by_threads(tinyllama, seed)) == Counter(tinyllama)


def test_no_parameter_is_quantized_before_its_copy_is_there(tinyllama):
    order = {event.block: i for i, event in enumerate(by_threads(tinyllama, 0)) if event.action == "alloc"}
    for first in range(4, 4 + 3 * 7 * LAYERS, 3):
        assert order[first] < order[first + 1] < order[first + 2]


def test_parameters_are_quantized_in_the_order_of_their_names(tinyllama):
    packed = [event.block for event in by_threads(tinyllama, 1) if event.label.startswith("bitsandbytes")]
    assert packed == sorted(packed)


def test_copies_wait_beside_each_other_on_the_device(tinyllama):
    threaded, serial = (replay(events, CachingAllocator()) for events in (by_threads(tinyllama, 0), tinyllama))
    assert threaded.phases[0].peak_allocated_bytes > serial.phases[0].peak_allocated_bytes


def test_the_race_decides_how_much_slack_the_load_leaves(tinyllama):
    slack = {resident(by_threads(tinyllama, seed)) for seed in range(8)}
    assert len(slack) > 1
    assert max(slack) - min(slack) < 16 * MIB
    assert all((each - min(slack)) % (512 * KIB) == 0 for each in slack)  # packed weights come in halves of a MiB


def test_one_thread_is_never_more_than_one_copy_ahead(tinyllama):
    alive = most = 0
    for event in by_threads(tinyllama, 0, workers=1):
        if event.action == "phase" and event.label == "prepare":
            break
        if event.label == COPY and event.block > 3:
            alive += 1
        elif event.action == "free" and event.block > 3:
            alive -= 1
        most = max(most, alive)
    assert most <= 2


def test_the_same_seed_runs_the_same_race(tinyllama):
    assert by_threads(tinyllama, 3) == by_threads(tinyllama, 3)


def test_a_moved_model_leaves_out_the_warm_up_block_and_nothing_else(tinyllama):
    assert without_warmup(tinyllama) == [event for event in tinyllama if event.block != 1]


def test_tinyllamas_odd_embeddings_waste_a_mebibyte_each_when_moved():
    events = [Event("phase", label="load"), Event("alloc", 1, 125 * MIB, COPY), Event("alloc", 2, 125 * MIB, COPY)]
    assert resident(without_warmup([*events, Event("phase", label="prepare")])) == 252 * MIB


def test_an_older_peft_keeps_the_cache(tinyllama):
    assert "empty_cache" not in {event.action for event in keeping_cache(tinyllama)}
