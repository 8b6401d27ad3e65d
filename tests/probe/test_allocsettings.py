"""`expandable_segments` is an environment variable in life: the request's answer to it reaches torch's allocator."""

import pytest

from planner.expandable import ExpandableAllocator
from planner.probe.allocator import CachingAllocator
from planner.probe.allocsettings import VARIABLES, allocator_settings, settle_allocator
from planner.probe.measure import measure
from planner.probe.options import Options
from planner.probe.progress import Progress
from planner.probe.replay import replay
from tests.probe.tiny import request, watch


@pytest.mark.parametrize(
    ("before", "expandable", "after"),
    [
        ({}, False, ""),
        ({}, True, "expandable_segments:True"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, False, "max_split_size_mb:128"),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, True, "max_split_size_mb:128,expandable_segments:True"),
        ({"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, False, "expandable_segments:False"),
    ],
)
def test_the_request_decides_and_the_rest_stays(before: dict[str, str], expandable: bool, after: str) -> None:
    environment = dict(before)
    settle_allocator(environment, expandable=expandable)
    assert allocator_settings(environment) == after
    assert not expandable or {environment[name] for name in VARIABLES} == {after}


def test_a_dry_run_is_replayed_through_the_allocator_the_request_runs_with() -> None:
    wide = {"hidden_size": 512, "intermediate_size": 2048, "vocab_size": 8192}
    asked = request(config=wide, training={"expandable_segments": True, "max_length": 256})
    measured = measure(asked, Options(), Progress())
    events = watch(asked, steps=3).events
    assert measured.peak_reserved_bytes == replay(events, ExpandableAllocator()).peak_reserved_bytes
    assert measured.peak_reserved_bytes != replay(events, CachingAllocator()).peak_reserved_bytes
