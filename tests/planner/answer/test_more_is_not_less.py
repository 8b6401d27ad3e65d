"""More never costs less in what a person is told: the allocator may jump, and the band covers the jump."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.answer.plan import Plan, plan
from planner.overheads.table import overheads
from planner.request.schema import Request

MODELS = ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-1.5B", "HuggingFaceTB/SmolLM2-135M", "facebook/opt-125m")


def planned(model: str, method: str, batch: int, length: int) -> Plan:
    training = {"per_device_train_batch_size": batch, "max_length": length}
    return plan(Request.parse({"model": model, "gpu": "h100-sxm-80gb", "method": method, "training": training}))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(("full", "lora", "qlora")),
    st.integers(1, 4),
    st.integers(128, 4_096),
    st.sampled_from((1, 2, 8, 63, 64, 500)),
)
@example("Qwen/Qwen2.5-1.5B", "full", 1, 2_048, 1)
def test_the_band_of_a_longer_run_reaches_what_a_shorter_one_was_said_to_take(
    model: str, method: str, batch: int, length: int, more: int
) -> None:
    shorter = planned(model, method, batch, length).required_bytes
    longer = planned(model, method, batch, length + more).required_bytes
    assert longer.high >= shorter.likely
    assert shorter.low <= longer.likely


def test_full_fine_tuning_jumps_most_and_the_figure_is_the_recorded_one() -> None:
    assert overheads().jump("full").fraction > overheads().jump("lora").fraction
    assert overheads().jump("nothing recorded").fraction == 0.0
