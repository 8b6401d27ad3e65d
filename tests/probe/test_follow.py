"""A dry run follows the card: its attention kernels, its 4-bit products, its autocast, its host memory."""

import bitsandbytes as bnb
import pytest
import torch
import transformers.modeling_utils as modeling
from torch.nn import functional

from planner.probe.attention import Call, choose_kernel
from planner.probe.autocast import cuda_autocast_lists
from planner.probe.fused4bit import uses_fused_kernel
from planner.probe.meters.kernels import temporaries_of, workspaces_of
from planner.probe.target import CPU, Target, target_of
from planner.units import MIB
from tests.probe.tiny import peaks, request, watch

T4, A100, RTX_4090, H100 = Target((7, 5)), Target((8, 0)), Target((8, 9)), Target((9, 0))
BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


def shaped(heads: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty((1, heads, 8, width), dtype=dtype, device="meta")


@pytest.mark.parametrize(
    ("target", "pinned", "dtype", "width", "masked", "grouped", "kernel"),
    [
        (A100, "auto", BF16, 128, False, True, "flash"),
        (A100, "auto", BF16, 128, True, False, "mem_efficient"),
        (A100, "auto", FP32, 128, False, False, "mem_efficient"),
        (A100, "auto", FP32, 128, False, True, "math"),
        (A100, "auto", BF16, 320, False, False, "mem_efficient"),
        (T4, "auto", FP16, 64, False, False, "mem_efficient"),
        (T4, "auto", FP16, 64, False, True, "math"),
        (T4, "auto", BF16, 64, False, False, "math"),
        (A100, "mem_efficient", BF16, 128, False, False, "mem_efficient"),
        (A100, "math", BF16, 128, False, False, "math"),
        (H100, "cudnn", BF16, 128, False, True, "cudnn"),
        (H100, "cudnn", BF16, 128, True, False, "mem_efficient"),
        (RTX_4090, "auto", BF16, 208, False, False, "mem_efficient"),
        (RTX_4090, "auto", BF16, 256, False, False, "flash"),
        (A100, "auto", BF16, 208, False, False, "flash"),
    ],
)
def test_attention_runs_the_kernel_torch_would_choose(  # noqa: PLR0917  # one argument per column
    target: Target, pinned: str, dtype: torch.dtype, width: int, masked: bool, grouped: bool, kernel: str
) -> None:
    query = shaped(4, width, dtype)
    call = Call(query, query, query, mask=query if masked else None, grouped=grouped)
    assert choose_kernel(target, pinned, call) == kernel


def test_a_4_bit_product_expands_the_weight_unless_bitsandbytes_fuses_it() -> None:
    n, k, tokens = 4096, 4096, 2048
    args = [torch.empty((tokens, k), dtype=BF16, device="meta"), None, (n, k), None, 64, "nf4"]
    sizes = temporaries_of(RTX_4090)["bitsandbytes.gemm_4bit.default"]
    assert sizes(args, {}) == (2 * n * k,)
    constants = n * k // 64 * 4
    assert sizes([*args, None, torch.empty(0)], {}) == (constants, constants, 2 * n * k)
    assert not uses_fused_kernel(RTX_4090, BF16, tokens, n, k)
    assert uses_fused_kernel(RTX_4090, BF16, 4, n, k)
    args[0] = torch.empty((4, k), dtype=BF16, device="meta")
    assert sizes(args, {}) == ()


def test_flash_backward_takes_a_float32_query_gradient_and_expanded_groups() -> None:
    sizes = temporaries_of(A100)["aten._scaled_dot_product_flash_attention_backward.default"]
    query = torch.empty((2, 8, 100, 80), dtype=BF16, device="meta")
    key = torch.empty((2, 2, 100, 80), dtype=BF16, device="meta")
    whole = [2 * 128 * 8 * 96 * 4, 2 * 8 * 128 * 4]  # rows to 128, width to 96
    assert sizes([query, query, query], {}) == whole
    assert sizes([query, query, key], {}) == [*whole, 2 * 100 * 8 * 80 * 2, 2 * 100 * 8 * 80 * 2]


def test_the_gradient_of_an_embedding_is_summed_up_in_float32_rows_first_where_tokens_are_many() -> None:
    sizes = temporaries_of(A100)["aten.embedding_dense_backward.default"]
    grad, ids = (torch.empty(shape, dtype=dtype, device="meta") for shape, dtype in (((4096, 64), BF16), (4096, FP32)))
    assert sizes([grad[:3072], ids[:3072], 32000, 0, False], {}) == ()
    indices, rows = sizes([grad, ids, 32000, 0, False], {})
    assert rows == (4096 + 409) * 64 * 4
    assert indices == 8 * (5 * 4096 + 4096 + 409)
    assert sizes([grad, ids, 1000, 0, False], {})[1] == (1000 + 409) * 64 * 4


def test_cublas_takes_a_workspace_per_thread_and_a_cpu_none() -> None:
    assert workspaces_of(A100) == {"first_forward": 0x820000, "first_backward": 0x820000}
    assert workspaces_of(H100)["first_forward"] == 32 * MIB
    assert workspaces_of(CPU) == {}
    assert temporaries_of(CPU) == {}


def test_autocast_keeps_cudas_float32_list_while_asked_to() -> None:
    x = torch.ones(4, 4, dtype=BF16)

    def dtypes() -> list[torch.dtype]:
        with torch.autocast("cpu", dtype=BF16):
            results = functional.softmax(x, dim=-1), functional.layer_norm(x, (4,)), x.pow(2), x.sum()
        return [result.dtype for result in results]

    before = dtypes()
    with cuda_autocast_lists():
        assert dtypes() == [FP32] * 4
        with torch.autocast("cpu", dtype=BF16):
            assert functional.softmax(x, dim=-1, dtype=BF16).dtype == BF16
            assert torch.mm(x.float(), x.float()).dtype == BF16
    assert dtypes() == before


def test_everything_patched_is_put_back() -> None:
    owners = (functional, torch.nn.Module, torch.optim.Adam, torch, modeling, bnb, bnb.functional, torch.cuda)
    before = [dict(vars(owner)) for owner in owners]
    watch(request(stack="trl"))
    for owner, names in zip(owners, before, strict=True):
        changed = {name for name, value in vars(owner).items() if names.get(name, value) is not value}
        assert changed == set()


def test_a_card_is_the_requests_own_unless_said_otherwise() -> None:
    assert target_of(request(), None).capability == (8, 9)
    assert target_of(request(), "sm_120").capability == (12, 0)
    assert target_of(request(), "cpu") is CPU


WIDE = {"config": {"vocab_size": 8192}, "training": {"max_length": 256}}


def worst(**parts: object) -> dict[str, int]:
    merged = {**WIDE, **parts}
    merged["training"] = WIDE["training"] | dict(parts.get("training") or {})  # type: ignore[arg-type,call-overload]  # plain dictionaries
    return peaks(watch(request(**merged)))  # type: ignore[arg-type]  # the builder's own keywords


def test_a_full_loss_holds_three_float32_copies_of_the_logits() -> None:
    full, shallow = worst(), worst(training={"max_length": 128})
    logits = 2 * (256 - 128) * 8192
    per_token_rest = full["forward"] - shallow["forward"]
    assert full["backward"] - shallow["backward"] == pytest.approx(12 * logits, abs=per_token_rest)


def test_trls_fused_head_needs_a_tile_and_no_logits() -> None:
    tile = 2 * 2 * 255 * 32768  # labels, less the last of each sequence, by 32,768 words in 16 bit
    trl = worst(stack="trl")
    assert trl["loss"] - trl["forward"] == pytest.approx(tile, rel=0.05)


def test_liger_never_holds_the_logits_and_leaves_the_model_as_it_was() -> None:
    plain = worst()
    liger = worst(training={"loss": "liger"})
    assert liger["backward"] < plain["backward"] / 2
    assert worst() == plain


def test_liger_leaves_torchs_cross_entropy_as_it_was_where_it_keeps_all_logits() -> None:
    before = functional.cross_entropy
    liger = peaks(watch(request(config={"model_type": "granite"}, training={"loss": "liger"})))
    assert functional.cross_entropy is before
    assert liger["backward"] > 0


def test_flash_attention_2_is_the_same_kernel() -> None:
    assert worst(training={"attn_implementation": "flash_attention_2"}) == worst()


def test_flash_attention_2_keeps_the_tokens_of_a_padded_batch_that_count_and_no_mask() -> None:
    kept = {"gradient_checkpointing": False, "padded": True}
    packed, masked = worst(training={"attn_implementation": "flash_attention_2", **kept}), worst(training=kept)
    bias = 2 * 2 * 256 * 256  # what mem-efficient saves in each of two layers: 16 bit for every pair of tokens
    assert packed["forward"] < masked["forward"] - bias


def test_the_backward_of_a_packed_batch_pads_each_sequence_by_128_rows() -> None:
    sizes = temporaries_of(A100)["aten._flash_attention_backward.default"]
    query, key = (torch.empty((448, heads, 80), dtype=BF16, device="meta") for heads in (8, 2))
    rows = 448 + 128 * 2
    starts = torch.empty(3, dtype=torch.int32, device="meta")
    assert sizes([query, query, query, None, None, None, starts], {}) == [rows * 8 * 96 * 4, 8 * rows * 4]
    assert sizes([query, query, key, None, None, None, starts], {})[2:] == [448 * 8 * 80 * 2] * 2


def test_a_padded_batch_keeps_a_mask() -> None:
    mask = 2 * 256 * 256
    assert worst(training={"padded": True})["forward"] >= worst()["forward"] + mask


def test_dropout_saves_a_mask_of_one_byte_per_input() -> None:
    kept = worst(training={"gradient_checkpointing": False})
    dropped = worst(training={"gradient_checkpointing": False}, lora={"lora_dropout": 0.1})
    tokens, inputs = 2 * 256, 2 * (6 * 64 + 128)  # two layers: six projections read 64 values, one reads 128
    assert dropped["forward"] - kept["forward"] >= tokens * inputs


def test_large_paged_states_are_not_torchs_memory() -> None:
    wide = {"config": {"hidden_size": 512, "intermediate_size": 4096}, "lora": {"r": 32}}
    paged = peaks(watch(request(**wide, training={"optim": "paged_adamw_8bit"})))
    plain = peaks(watch(request(**wide, training={"optim": "adamw_8bit"})))
    mlp = 2 * 3 * 2 * 32 * 4096  # two layers, gate, up and down, two states of one byte, rank 32 by 4096
    assert plain["optimizer"] - paged["optimizer"] == mlp
