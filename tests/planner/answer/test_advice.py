import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner import Request, plan
from planner.answer.plan import smallest_cards
from planner.answer.reach.limits import MOST, limits
from planner.answer.ways_to_fit.advice import apply
from planner.errors import FitproofError

# Wishes that are too much for these cards.
WISHES = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["meta-llama/Llama-2-7b-hf", "meta-llama/Llama-3.1-8B", "meta-llama/Llama-2-13b-hf"]),
        "gpu": st.sampled_from(["rtx-3090", "rtx-4090", "rtx-4060", "a100-sxm-40gb"]),
        "method": st.sampled_from(["qlora", "qlora", "lora", "full"]),
        "stack": st.sampled_from(["trainer", "trl", "kbit"]),
        "lora": st.fixed_dictionaries(
            {"r": st.sampled_from([8, 16, 64, 256]), "lora_dropout": st.sampled_from([0.0, 0.05])}
        ),
        "training": st.fixed_dictionaries(
            {
                "per_device_train_batch_size": st.sampled_from([1, 4, 12]),
                "max_length": st.sampled_from([2048, 8192, 16384]),
                "gradient_checkpointing": st.booleans(),
                "optim": st.sampled_from(["adamw_torch", "adamw_8bit", "paged_adamw_8bit"]),
            }
        ),
    }
).map(Request.parse)


def asked(**training: object) -> Request:
    return Request.parse({"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4090", "training": training})


@given(WISHES)
@settings(max_examples=30, deadline=None)
def test_every_change_gives_the_verdict_it_promised(request: Request) -> None:
    answer = plan(request)
    for advice in answer.advice:
        again = plan(apply(request, advice.to_dict()["change"]))
        assert again.verdict == advice.verdict
        assert again.verdict != "does_not_fit"
        if "gpu" not in advice.change:
            assert answer.smallest_bytes - again.smallest_bytes == advice.saves_bytes > 0


def test_a_plan_that_fits_needs_no_advice() -> None:
    assert plan(asked(max_length=512)).advice == ()


def test_a_smaller_micro_batch_keeps_the_effective_batch() -> None:
    changes = [advice.change for advice in plan(asked(per_device_train_batch_size=12, max_length=4096)).advice]
    change = next(change for change in changes if "training.per_device_train_batch_size" in change)
    assert change["training.per_device_train_batch_size"] * change["training.gradient_accumulation_steps"] == 12


def test_free_changes_come_before_those_that_change_the_training() -> None:
    advice = plan(asked(per_device_train_batch_size=4, max_length=8192)).advice
    paths = [next(iter(item.change)) for item in advice]
    assert paths.index("training.loss") < paths.index("training.max_length") < paths.index("gpu")


def test_where_one_change_is_not_enough_several_are_named_together() -> None:
    request = Request.parse(
        {
            "model": "meta-llama/Llama-2-13b-hf", "gpu": "rtx-4060", "stack": "kbit", "method": "qlora",
            "training": {"per_device_train_batch_size": 2, "max_length": 512, "gradient_checkpointing": False},
        }
    )  # fmt: skip
    advice = plan(request).advice
    assert advice
    assert all(item.verdict in ("fits", "tight") for item in advice)


def test_free_changes_together_come_before_a_shorter_length() -> None:
    answer = plan(Request.parse({"model": "Qwen/Qwen3-32B", "gpu": "rtx-4090"}))
    assert answer.verdict == "tight"
    first, second, *others = answer.advice
    assert first.change == {"training.loss": "liger", "training.expandable_segments": True}
    assert second.change == {
        "stack": "unsloth", "training.gradient_checkpointing": "unsloth", "training.expandable_segments": True,
    }  # fmt: skip
    assert (first.verdict, second.verdict) == ("fits", "fits")
    assert any("training.max_length" in item.change for item in others)


def test_a_cut_is_made_on_top_of_what_is_free() -> None:
    answer = plan(Request.parse({"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-4060-laptop"}))
    cut = next(item.change for item in answer.advice if "training.max_length" in item.change)
    assert cut["training.loss"] == "liger"
    alone = plan(apply(answer.request, {"training.max_length": cut["training.max_length"]}))
    assert alone.verdict != "fits"


@pytest.mark.parametrize(
    ("model", "smaller"),
    [
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-14B"),
        ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("google/gemma-3-27b-it", "google/gemma-3-12b-it"),
    ],
)
def test_a_smaller_model_of_the_family_is_named_before_other_cards(model: str, smaller: str) -> None:
    changes = [item.change for item in plan(Request.parse({"model": model, "gpu": "rtx-4090"})).advice]
    place = changes.index({"model": smaller})
    assert place < min(number for number, change in enumerate(changes) if "gpus" in change or "gpu" in change)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-32B", "meta-llama/Llama-3.3-70B-Instruct", "Qwen/Qwen3-14B"])
def test_other_cards_are_one_of_each_tier_and_run_the_recipe(model: str) -> None:
    cards = smallest_cards(Request.parse({"model": model, "gpu": "t4"}))
    assert cards
    assert all(card.gpu.native_bfloat16 for card in cards)
    assert len({card.gpu.nominal_gb for card in cards}) == len(cards)
    assert not {"h800", "a800-pcie-80gb", "h20", "l20"} & {card.gpu.id for card in cards}


def test_the_smallest_cards_come_smallest_first_and_fit() -> None:
    cards = smallest_cards(asked(max_length=8192, per_device_train_batch_size=4))
    assert [card.usable_bytes for card in cards] == sorted(card.usable_bytes for card in cards)
    assert {card.verdict for card in cards} == {"fits"}


def test_limits_are_the_last_values_that_fit() -> None:
    found = limits(asked())
    for field, limit in (
        ("per_device_train_batch_size", found.per_device_train_batch_size),
        ("max_length", found.max_length),
    ):
        assert plan(asked(**{field: limit.fits})).verdict == "fits"
        assert plan(asked(**{field: limit.fits + 1})).verdict != "fits"
        assert plan(asked(**{field: limit.tight + 1})).verdict == "does_not_fit"


def test_four_bit_weights_are_advised_once_activations_are_no_longer_kept() -> None:
    kept = asked(per_device_train_batch_size=4, max_length=4096, gradient_checkpointing=False, optim="sgd")
    dora = {"r": 64, "use_dora": True}
    request = Request.parse({
        **kept.model_dump(), "model": "mistralai/Mistral-Nemo-Instruct-2407", "method": "lora", "quantization": None,
        "lora": dora, "stack": "trl",
    })  # fmt: skip
    (together,) = (item for item in plan(request).advice if item.change.keys() >= {"method"})
    assert together.change == {
        "training.gradient_checkpointing": True, "lora.use_dora": False, "method": "qlora",
    }  # fmt: skip
    assert plan(apply(request, together.change)).verdict == together.verdict == "fits"


def test_a_length_is_cut_on_top_of_all_that_helps() -> None:
    request = Request.parse({
        "model": "google/gemma-3-27b-it", "gpu": "rtx-5090", "method": "lora", "stack": "kbit",
        "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]},
        "training": {"per_device_train_batch_size": 2, "max_length": 8192, "gradient_checkpointing": False},
    })  # fmt: skip
    first = plan(request).advice[0]
    assert first.change.keys() >= {"method", "training.gradient_checkpointing", "training.max_length"}
    assert plan(apply(request, first.change)).verdict == first.verdict == "fits"


def generating(**training: object) -> Request:
    return Request.parse({
        "model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-3060-12gb", "stack": "trl",
        "training": {"objective": "grpo", "max_length": 4096, "max_completion_length": 2048, **training},
    })  # fmt: skip


def test_a_run_that_generates_keeps_its_completion_in_what_is_advised() -> None:
    request = generating(per_device_train_batch_size=4)
    advice = [item for item in plan(request).advice if "training.max_length" in item.change]
    assert all(plan(apply(request, item.change)).verdict == item.verdict for item in advice)
    assert plan(request).verdict == "does_not_fit"


def test_limits_of_a_run_that_generates_are_whole_groups_beyond_a_completion() -> None:
    found = limits(generating(num_generations=2, per_device_train_batch_size=2))
    assert plan(generating(num_generations=2, per_device_train_batch_size=2, max_length=found.max_length.fits))
    assert found.max_length.fits > 2048
    batch = found.per_device_train_batch_size
    assert (batch.fits % 2, batch.tight % 2) == (0, 0)
    assert plan(generating(num_generations=2, per_device_train_batch_size=batch.fits)).verdict == "fits"


def test_limits_of_what_never_fits_are_zero() -> None:
    request = Request.parse({"model": "meta-llama/Llama-2-70b-hf", "gpu": "rtx-4060"})
    assert limits(request).to_dict()["max_length"] == {"fits": 0, "tight": 0}


@pytest.mark.parametrize("field", list(MOST))
def test_the_search_ends_where_the_request_does(field: str) -> None:
    assert plan(asked(**{field: MOST[field]})).verdict == "does_not_fit"
    with pytest.raises(FitproofError):
        asked(**{field: MOST[field] + 1})
