"""Several cards at the doors of the site: addresses, the form, trainers' files."""

from urllib.parse import parse_qsl

import httpx
import pytest

from app import imports
from app.forms.plan_form import query_of, read_form
from planner.request.schema import Request

BASE = {"model": "meta-llama/Llama-2-7b-hf", "gpu": "rtx-3090"}


@pytest.mark.parametrize(
    "changes",
    [
        {"gpus": 2},
        {"gpus": 4, "fsdp": "full_shard offload"},
        {"gpus": 4, "fsdp": {"reshard_after_forward": False, "version": 1}},
        {"gpus": 8, "deepspeed": "zero3-offload"},
        {"gpus": 8, "deepspeed": {"stage": 2, "overlap_comm": True}},
        {"gpus": 2, "ddp": {"gradient_as_bucket_view": True}},
        {"gpus": 4, "fsdp": "full_shard", "parallelism_config": {"cp_size": 2}},
        {"gpus": 4, "deepspeed": "zero3", "parallelism_config": {"sp_size": 4, "dp_shard_size": 1}},
        {"gpus": 2, "device_map": "auto"},
        {"gpus": 2, "device_map": "sequential", "max_memory": {"0": "10GiB", "1": "20GiB"}},
        {"gpus": 2, "device_map": {"": 0, "lm_head": 1}},
        {"gpus": ["rtx-3090", "rtx-3060-12gb"], "device_map": "balanced_low_0"},
    ],
)
def test_every_strategy_has_an_address(changes: dict[str, object]) -> None:
    request = Request.parse(BASE | changes)
    address = query_of(request.model_dump(mode="json"))
    assert Request.parse(read_form(parse_qsl(address)).document) == request


def test_the_page_shows_what_each_card_of_a_spread_model_holds(site: httpx.Client) -> None:
    page = site.get("/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-3090&method=lora&gpus=2&device_map=auto").text
    assert "card 1, RTX 3090: 16 layers, the fullest" in page
    assert "That is the fullest of 2 cards, of which one computes at a time." in page
    assert "One process has all 2 cards, and each of them is read." in page


def test_sequences_are_cut_by_a_control_of_the_page(site: httpx.Client) -> None:
    path = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-3090&method=lora&gpus=4&fsdp=full_shard&max_length=8192"
    whole, cut = site.get(path).text, site.get(f"{path}&cp_size=4").text
    assert 'name="cp_size" value="4"' in " ".join(cut.split())
    assert "4 parts" not in whole
    alone = site.get(f"{path}&cp_size=3").text
    assert "write gpus as a multiple of 3" in alone


def test_a_count_typed_with_the_card_wins_over_the_controls_own_default() -> None:
    form = read_form([("model", BASE["model"]), ("gpu", "2x3090"), ("gpus", "1")])
    assert Request.parse(form.document).gpus == 2


def test_the_page_says_that_its_bytes_are_each_cards_and_what_the_host_needs(site: httpx.Client) -> None:
    path = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-3090&method=full&gpus=2"
    page = site.get(f"{path}&fsdp=full_shard offload").text
    assert " That is for each of 2 cards. " in page
    assert "of host memory for each process." in page


FILE = """
base_model: meta-llama/Llama-2-70b-hf
adapter: qlora
load_in_4bit: true
lora_r: 8
lora_alpha: 16
lora_target_linear: true
sequence_len: 512
micro_batch_size: 1
fsdp: [full_shard, auto_wrap]
fsdp_config:
  fsdp_version: 2
  fsdp_offload_params: true
  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
"""


def test_a_trainers_fsdp_is_planned_where_the_cards_are_counted() -> None:
    read = imports.read(FILE, gpu="2x3090")
    request = Request.parse(read.document)
    assert read.not_planned == ()
    assert (request.gpus, request.fsdp and request.fsdp.cpu_offload) == (2, True)
    assert request.quantization is not None
    assert request.quantization.bnb_4bit_quant_storage == "bfloat16"


def test_for_one_card_it_is_still_named_as_not_planned() -> None:
    assert {item.key for item in imports.read(FILE, gpu="3090").not_planned} == {"fsdp", "fsdp_config"}


def test_a_key_that_fsdp_config_does_not_have_leaves_it_unplanned() -> None:
    read = imports.read(FILE + "  fsdp_reshard_twice: true\n", gpu="2x3090")
    assert {item.key for item in read.not_planned} == {"fsdp", "fsdp_config"}


def test_deepspeed_files_that_trainers_ship_are_known_by_name_and_others_are_not_opened() -> None:
    plain = "model_name_or_path: Qwen/Qwen2.5-7B\nfinetuning_type: full\nstage: sft\ncutoff_len: 2048\ndeepspeed: "
    known = imports.read(plain + "examples/deepspeed/ds_z3_config.json\n", gpu="8xh100")
    assert known.document["deepspeed"]["stage"] == 3
    unknown = imports.read(plain + "my/zero.json\n", gpu="8xh100")
    assert "deepspeed" in {item.key for item in unknown.not_planned}


def test_unlike_cards_typed_with_a_plus_are_planned_and_the_fullest_is_named(site: httpx.Client) -> None:
    address = "/plan?model=meta-llama/Llama-3.1-8B&gpu=rtx-3090%2Brtx-3060-12gb&gpus=1&method=lora&device_map=auto"
    page = site.get(address, follow_redirects=True).text
    assert "card 1, RTX 3060 12GB: 16 layers, the fullest" in page
