"""More of the same cards, where one does not do."""

from typing import Any

import pytest

from app.forms.plan_form import changed, query_of, read_form
from planner import Plan, plan
from planner.request.schema import Request

LONG = {"max_length": 8192, "per_device_train_batch_size": 2}


def asked(**changes: Any) -> Plan:
    return plan(Request.parse({"model": "meta-llama/Llama-3.1-8B", "gpu": "rtx-3090", "method": "full", **changes}))


def of_several(found: Plan) -> list[dict[str, Any]]:
    return [item.to_dict() for item in found.advice if "gpus" in item.change or "deepspeed" in item.change]


def test_the_fewest_cards_that_do_are_named_once_with_what_the_host_needs() -> None:
    sharded, on_host, zero = of_several(asked())
    assert (sharded["change"], sharded["verdict"]) == ({"gpus": 4, "fsdp": "full_shard"}, "fits")
    assert (on_host["change"], on_host["verdict"]) == ({"gpus": 2, "fsdp": "full_shard offload"}, "fits")
    assert "host memory for each process" in on_host["cost"]
    assert (zero["change"], zero["verdict"]) == ({"deepspeed": "zero3-offload"}, "fits")


def test_a_change_gives_the_verdict_that_it_promises_and_has_an_address() -> None:
    found = asked()
    document = found.request.model_dump(mode="json")
    for item in of_several(found):
        promised = changed(document, item["change"])
        address = query_of(promised)
        assert "also" not in address
        assert plan(Request.parse(promised)).verdict == item["verdict"]


def test_a_run_that_fits_needs_no_more_cards() -> None:
    assert of_several(asked(gpu="h200")) == []


@pytest.mark.parametrize("strategy", [{"deepspeed": {"stage": 2}}, {"fsdp": "full_shard"}])
def test_one_card_that_shares_with_nobody_is_told_to_drop_its_strategy(strategy: dict[str, Any]) -> None:
    training = {"optim": "adamw_torch", "max_length": 512}
    found = asked(model="Qwen/Qwen2.5-1.5B", training=training, **strategy)
    (dropped,) = (item for item in found.advice if list(item.change) == list(strategy))
    alone = asked(model="Qwen/Qwen2.5-1.5B", training=training)
    assert dropped.verdict == alone.verdict == "fits"
    assert dropped.saves_bytes == found.smallest_bytes - alone.smallest_bytes


def test_four_bit_values_are_kept_so_that_they_can_be_cut() -> None:
    found = asked(model="meta-llama/Llama-2-70b-hf", method="qlora", gpu="rtx-a6000", training=LONG)
    changes = [item["change"] for item in of_several(found)]
    assert changes
    assert all(change["quantization.bnb_4bit_quant_storage"] == "bfloat16" for change in changes)


def test_layers_in_turn_are_named_where_shards_have_to_hold_all_of_a_quantized_model_first() -> None:
    found = asked(model="meta-llama/Llama-2-70b-hf", method="qlora", training={"max_length": 512})
    (spread,) = of_several(found)
    assert spread["change"] == {"gpus": 4, "device_map": "auto"}
    assert "one computes at a time" in spread["cost"]
    promised = changed(found.request.model_dump(mode="json"), spread["change"])
    assert plan(Request.parse(promised)).verdict == spread["verdict"] == "fits"


def test_an_address_of_words_reads_back_as_the_section_they_stand_for() -> None:
    form = read_form([("model", "a/b"), ("gpu", "t4"), ("gpus", "2"), ("fsdp", "full_shard offload")])
    assert Request.parse(form.document).fsdp == Request.parse({**form.document, "fsdp": {"cpu_offload": True}}).fsdp
