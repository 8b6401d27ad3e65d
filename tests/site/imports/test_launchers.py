"""What a shell line says before its program: how many processes, and how they share the model."""

from typing import Any

import pytest

from app.imports import Imported, read
from planner.request.schema import Request

SCRIPT = (
    "run_sft.py --model_name_or_path meta-llama/Llama-3.2-1B --per_device_train_batch_size 1 --max_length 1024 "
    "--packing true"
)
WRAP = "--fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"


def imported(launcher: str, gpu: str = "rtx-4090") -> Imported:
    return read(f"{launcher} {SCRIPT}", gpu=gpu)


def asked(launcher: str, gpu: str = "rtx-4090") -> Request:
    return Request.parse(imported(launcher, gpu).document)


def as_a_file(**keys: Any) -> Request:
    return Request.parse({**imported("python").document, **keys})


@pytest.mark.parametrize(
    ("flags", "fsdp", "config"),
    [
        (f"--fsdp_version 2 {WRAP} --fsdp_offload_params true", "full_shard offload", {}),
        (f"--fsdp_version 2 {WRAP} --fsdp_reshard_after_forward false", "shard_grad_op", {}),
        (f"--fsdp_version 2 {WRAP} --fsdp_sharding_strategy SHARD_GRAD_OP", "full_shard", {}),
        (f"{WRAP} --fsdp_transformer_layer_cls_to_wrap LlamaDecoderLayer", "full_shard", {"version": 1}),
        (f"{WRAP} --fsdp_sharding_strategy 2", "shard_grad_op", {"version": 1}),
        ("", "full_shard", {"version": 1, "auto_wrap_policy": "NO_WRAP"}),
        (
            f"{WRAP} --num_machines 2 --fsdp_sharding_strategy HYBRID_SHARD --fsdp_backward_prefetch BACKWARD_PRE",
            "hybrid_shard",
            {"version": 1, "cards_per_node": 2, "backward_prefetch": "backward_pre"},
        ),
    ],
)
def test_accelerates_fsdp_flags_shard_as_a_files_keys_do(flags: str, fsdp: str, config: dict[str, Any]) -> None:
    line = f"accelerate launch --num_processes 4 --use_fsdp {flags}"
    assert imported(line).not_planned == ()
    assert asked(line) == as_a_file(gpus=4, fsdp=fsdp, fsdp_config=config)


@pytest.mark.parametrize(
    ("flags", "zero"),
    [
        ("", {"stage": 2}),
        ("--zero_stage 1", {"stage": 1}),
        (
            "--zero_stage 3 --offload_optimizer_device cpu --offload_param_device cpu --zero3_init_flag true",
            {"stage": 3, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}},
        ),
        ("--deepspeed_config_file configs/ds_z2_config.json", {"stage": 2, "overlap_comm": False}),
    ],
)
def test_accelerates_zero_flags_are_a_zero_configuration(flags: str, zero: dict[str, Any]) -> None:
    line = f"accelerate launch --num_processes 2 --use_deepspeed {flags}"
    assert imported(line).not_planned == ()
    assert asked(line) == as_a_file(gpus=2, deepspeed=zero)


@pytest.mark.parametrize(
    ("launcher", "count"),
    [
        ("accelerate launch --multi_gpu --num_processes 8 --num_machines 2 --main_process_ip 10.0.0.1", 8),
        ("torchrun --standalone --nproc-per-node=2", 2),
        ("torchrun --nproc_per_node 8 --nnodes 2 --node_rank 0 --master_addr 10.0.0.1", 16),
        ("python -m torch.distributed.run --nproc_per_node 4", 4),
        ("deepspeed --num_gpus 4 --master_port 29501 --no_ssh_check", 4),
        ("NPROC_PER_NODE=4\ntorchrun --nnodes 2 --nproc_per_node $NPROC_PER_NODE", 8),
        ("accelerate launch --num_processes 2 --gpu_ids 2,3 --gradient_accumulation_steps 4", 2),
        ("CUDA_VISIBLE_DEVICES=0,1 accelerate launch --num_processes 2", 2),
    ],
)
def test_a_launcher_counts_the_cards(launcher: str, count: int) -> None:
    assert asked(launcher) == as_a_file(gpus=count)
    assert imported(launcher).not_planned == ()


@pytest.mark.parametrize(
    ("word", "zero"),
    [
        ("zero2", {"stage": 2, "overlap_comm": False, "allgather_bucket_size": 2e8, "reduce_bucket_size": 2e8}),
        ("zero3_offload", {"stage": 3, "offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}),
    ],
)
def test_ms_swifts_words_for_its_zero_configurations_are_read(word: str, zero: dict[str, Any]) -> None:
    line = f"swift sft --model meta-llama/Llama-3.2-1B --train_type full --max_length 2048 --deepspeed {word}"
    found = read(f"NPROC_PER_NODE=4 {line}", gpu="4090")
    assert found.not_planned == ()
    section = Request.parse(found.document).deepspeed
    wanted = Request.parse({"model": "x", "gpu": "y", "deepspeed": zero}).deepspeed
    assert section
    assert wanted
    names = ("stage", "offload_param", "offload_optimizer", "allgather_bucket_size")
    assert [getattr(section, name) for name in names] == [getattr(wanted, name) for name in names]


def test_a_switch_is_turned_off_by_no_before_its_name() -> None:
    line = f"python {SCRIPT} --no_gradient_checkpointing".replace("--packing true", "--no-packing")
    found = read(line, gpu="4090")
    assert found.not_planned == ()
    training = found.document["training"]
    assert (training["gradient_checkpointing"], training.get("packing")) == (False, None)


def test_slurm_may_have_flags_of_its_own_before_a_launcher() -> None:
    assert asked("srun -N 2 --gpus-per-node=8 torchrun --nproc_per_node 8 --nnodes 2") == as_a_file(gpus=16)


def test_every_card_of_a_machine_is_no_count() -> None:
    assert [item.key for item in imported("deepspeed --num_gpus -1").not_planned] == ["num_gpus"]


def test_cards_that_are_counted_otherwise_are_named() -> None:
    line = "torchrun --nproc_per_node 4"
    assert asked(line, "2x4090").gpus == 2
    assert [item.key for item in imported(line, "2x4090").not_planned] == ["num_processes"]


def test_fsdps_own_checkpointing_is_checkpointing() -> None:
    line = f"accelerate launch --num_processes 2 --use_fsdp {WRAP} --fsdp_activation_checkpointing true"
    found = read(f"{line} {SCRIPT} --gradient_checkpointing false", gpu="4090")
    assert found.not_planned == ()
    assert found.document["training"]["gradient_checkpointing"] is True


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--fsdp_auto_wrap_policy SIZE_BASED_WRAP", {"fsdp", "fsdp_config"}),
        (f"{WRAP} --fsdp_sharding_strategy NO_SHARD", {"fsdp", "fsdp_config"}),
        (f"{WRAP} --dynamo_backend inductor", {"torch_compile", "torch_compile_backend"}),
        (f"{WRAP} --mixed_precision fp16", {"mixed_precision"}),
    ],
)
def test_what_a_launcher_asks_for_and_no_plan_has_is_named(flags: str, named: set[str]) -> None:
    found = imported(f"accelerate launch --num_processes 2 --use_fsdp {flags}")
    assert {item.key for item in found.not_planned} == named


def test_a_launchers_mixed_precision_stands_in_where_the_program_says_nothing() -> None:
    def planned(launcher: str, more: str = "") -> Request:
        line = (
            f"{launcher} sft.py --output_dir out --model_name_or_path Qwen/Qwen3-0.6B --per_device_train_batch_size 1"
        )
        return Request.parse(read(line + more, gpu="4090").document)

    launched = planned("accelerate launch --num_processes 1 --mixed_precision bf16")
    assert launched == planned("python", " --bf16 true")
    assert launched == planned("accelerate launch --num_processes 1 --mixed_precision bf16", " --bf16 false")
    assert launched != planned("python")
    floats = " --fp16 true"
    assert planned("accelerate launch --num_processes 1 --mixed_precision bf16", floats) == planned("python", floats)
