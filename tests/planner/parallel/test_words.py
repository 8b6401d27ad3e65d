"""Several cards, as people write them: counts with the card, TrainingArguments' words, ZeRO configurations."""

from typing import Any

import pytest

from planner.errors import InvalidRequestError
from planner.request.parallel import Ddp
from planner.request.schema import Request


def request(**changes: Any) -> Request:
    return Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-3090", **changes})


def problem_of(**changes: Any) -> tuple[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        request(**changes)
    (problem,) = caught.value.problems
    return problem.field, problem.message


@pytest.mark.parametrize("written", ["2x3090", "2 x 3090", "2×3090"])
def test_a_card_may_be_counted(written: str) -> None:
    counted = request(gpu=written)
    assert (counted.gpus, counted.gpu) == (2, "3090")


def test_a_card_whose_name_holds_an_x_is_one_card() -> None:
    assert request(gpu="rtx-4090").gpus == 1


def test_two_counts_that_differ_are_refused() -> None:
    assert problem_of(gpu="2xa100", gpus=3) == (
        "gpus", "contradicts the 2 cards that gpu counts; keep one of the two",
    )  # fmt: skip


def test_fsdps_words_and_its_config_say_one_thing() -> None:
    config = {"fsdp_offload_params": True, "fsdp_transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}
    assert request(fsdp="full_shard auto_wrap offload").fsdp == request(fsdp=True, fsdp_config=config).fsdp


def test_training_arguments_own_place_for_fsdp_is_read() -> None:
    assert request(training={"fsdp": "shard_grad_op"}).fsdp == request(fsdp={"reshard_after_forward": False}).fsdp


def test_fsdp_config_without_fsdp_is_refused() -> None:
    assert problem_of(fsdp_config={"version": 2})[0] == "fsdp_config"


def test_a_word_that_fsdp_does_not_have_is_named() -> None:
    field, message = problem_of(fsdp="full_shard everything")
    assert field == "fsdp"
    assert message.startswith("everything is no option")


@pytest.mark.parametrize(
    "changes", [{"fsdp": {"reshard_before_forward": True}}, {"deepspeed": {"zero_optimization": {"stages": 3}}}]
)
def test_an_unknown_key_is_named(changes: dict[str, Any]) -> None:
    assert problem_of(**changes)[0] in {"fsdp.reshard_before_forward", "deepspeed.stages"}


def test_a_whole_deepspeed_configuration_is_its_zero_optimization() -> None:
    whole = {
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": 3, "offload_optimizer": {"device": "cpu", "pin_memory": True}, "reduce_bucket_size": "auto",
            "stage3_max_live_parameters": 1e9, "overlap_comm": True, "contiguous_gradients": True,
        },
    }  # fmt: skip
    zero = request(deepspeed=whole).deepspeed
    assert zero is not None
    assert (zero.stage, zero.offload_optimizer, zero.reduce_bucket_size) == (3, "cpu", None)


def test_parameters_are_offloaded_in_stage_3_alone() -> None:
    assert problem_of(deepspeed={"stage": 2, "offload_param": {"device": "cpu"}}) == (
        "deepspeed", "offload_param needs stage 3; stage is 2",
    )  # fmt: skip


def test_two_strategies_exclude_each_other() -> None:
    assert problem_of(gpus=2, ddp={}, fsdp=True) == ("fsdp", "ddp and fsdp exclude each other; keep one")


def test_trainings_bucket_cap_is_ddps() -> None:
    assert request(training={"ddp_bucket_cap_mb": 50}).ddp == Ddp(bucket_cap_mb=50)


@pytest.mark.parametrize("count", [0, 1025, 2.5])
def test_cards_are_a_whole_number_up_to_1024(count: float) -> None:
    assert problem_of(gpus=count)[0] == "gpus"
