"""Two published runs replayed from their recorded streams: what is committed is what the replay gives today."""

import pytest

from planner.evidence.published import published_runs
from planner.evidence.scores import predictions
from planner.probe.allocator import CachingAllocator
from planner.probe.replay import replay
from planner.probe.score import predict_from
from tests.probe.recorded import read

RUNS = {run.id: run for run in published_runs()}
COMMITTED = {prediction.id: prediction for prediction in predictions()}


@pytest.mark.parametrize("run_id", ["fitcheck-0050", "fitcheck-0053"])
def test_the_replay_gives_the_committed_prediction(run_id):
    assert predict_from(RUNS[run_id], read(run_id)) == COMMITTED[run_id]


def test_an_unquantized_run_reserves_to_the_byte_what_was_measured():
    run = RUNS["fitcheck-0053"]
    assert predict_from(run, read(run.id)).peak_reserved_bytes == run.also["peak_reserved"]


def test_a_loaded_model_allocates_to_the_byte_what_was_measured():
    for run_id in ("fitcheck-0050", "fitcheck-0053"):
        phases = {phase.name: phase for phase in replay(read(run_id), CachingAllocator()).phases}
        measured_bytes = RUNS[run_id].also["load_resident"]
        assert phases["prepare"].resident_bytes == pytest.approx(measured_bytes, abs=512)
