"""State sizes equal those of the real optimizers after a step on CPU (torch 2.13, bitsandbytes 0.50.2)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import InvalidRequestError
from planner.memory.optimizer import MAP_BYTES, State, optimizer_lines, state_of
from planner.memory.row_sums import Summing
from planner.request.optimizer_names import KEPT, NAMES, NOT_PLANNED, OF_TRAINERS, Optimizer
from planner.request.schema import Request
from planner.tensors.trainable import Trainable


def tensor(*shape: int, itemsize_bytes: int = 4, count: int = 1, embedding: bool = False) -> Trainable:
    return Trainable(name="w", shape=shape, count=count, itemsize_bytes=itemsize_bytes, embedding=embedding)


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        ("adamw_torch", State(2 * 262_144)),
        ("adamw_torch_fused", State(2 * 262_144 + 512)),
        ("adamw_8bit", State(2 * 65_536 + 2 * 1_024)),
        ("adamw_bnb_8bit", State(2 * 65_536 + 2 * 1_024)),
        ("paged_adamw_8bit", State(2 * 65_536 + 2 * 1_024)),  # 65,536 elements: too small to be paged
        ("paged_adamw_32bit", State(2 * 262_144)),
        ("adafactor", State(512 + 16_384 + 512)),  # 16 row means, 4,096 column means, RMS
        ("sgd", State(0)),
    ],
)
def test_state_of_a_rank_16_matrix(optimizer: Optimizer, state: State) -> None:
    assert state_of(tensor(16, 4096), optimizer) == state


def test_torch_states_follow_the_parameter_and_bitsandbytes_32bit_does_not() -> None:
    half = tensor(16, 4096, itemsize_bytes=2)
    assert state_of(half, "adamw_torch").device_bytes == 2 * 131_072
    assert state_of(half, "paged_adamw_32bit").device_bytes == 2 * 262_144


@pytest.mark.parametrize(("elements", "moment_bytes"), [(4_095, 4 * 4_095), (4_096, 4_096)])
def test_small_tensors_keep_float32_state(elements: int, moment_bytes: int) -> None:
    maxima_bytes = 512 if elements >= 4_096 else 0
    expected = 2 * (-(-moment_bytes // 512) * 512) + 2 * maxima_bytes
    assert state_of(tensor(elements), "adamw_8bit").device_bytes == expected


@pytest.mark.parametrize(("elements", "paged_bytes"), [(99_999, 0), (100_000, 200_000)])
def test_only_large_states_are_paged_and_their_maxima_are_not(elements: int, paged_bytes: int) -> None:
    state = state_of(tensor(elements), "paged_adamw_8bit")
    assert state.paged_bytes == paged_bytes
    assert state.device_bytes >= 2 * 4 * (elements // 256)


def test_trainer_keeps_embedding_state_in_32_bit() -> None:
    embedding = tensor(1000, 256, embedding=True)
    assert state_of(embedding, "adamw_8bit", embeddings_in_32bit=True).device_bytes == 8 * 256_000
    assert state_of(embedding, "adamw_8bit").device_bytes == 2 * 256_000 + 2 * 4_096


def test_paged_state_is_a_line_that_is_alive_in_no_phase() -> None:
    lines = optimizer_lines([tensor(16, 11_008, count=2)], "paged_adamw_8bit", clips=True)
    paged = next(line for line in lines if "paged out" in line.name)
    assert (paged.bytes, paged.alive_in) == (2 * 2 * 16 * 11_008, ())


def test_the_two_code_maps_are_shared_by_all_tensors() -> None:
    one, many = (optimizer_lines([tensor(64, 64, count=n)], "adamw_8bit", clips=False)[0].bytes for n in (1, 9))
    assert many - one == 8 * (one - 2 * MAP_BYTES)


def test_foreach_holds_the_square_roots_of_all_second_moments() -> None:
    tensors = [tensor(16, 4096, count=3)]
    assert optimizer_lines(tensors, "adamw_torch", clips=True)[-1].bytes == 3 * 262_144
    assert optimizer_lines(tensors, "adamw_torch_fused", clips=False)[-1].bytes == 0


def test_adafactor_squares_a_gradient_while_the_last_update_is_alive() -> None:
    def step_bytes(itemsize_bytes: int) -> int:
        tensors = [tensor(1024, 1024, itemsize_bytes=itemsize_bytes), tensor(512, 1024, itemsize_bytes=itemsize_bytes)]
        return optimizer_lines(tensors, "adafactor", clips=False)[-1].bytes

    assert step_bytes(4) == (2 << 20) + 2 * (4 << 20)
    assert step_bytes(2) == (2 << 20) + 4 * (4 << 20)


def test_adafactors_column_means_leave_partial_sums_on_a_card_of_many_multiprocessors() -> None:
    matrix, summing = tensor(8000, 1024), Summing(128, (8, 9))
    ways = (None, summing.column_means_bytes)
    lines = [optimizer_lines([matrix], "adafactor", clips=False, column_means=own)[-1] for own in ways]
    unaware_bytes, step_bytes = (line.bytes for line in lines)
    assert unaware_bytes == 3 * 4 * 8000 * 1024
    assert step_bytes == 4 * 8000 * 1024 + summing.column_means_bytes((8000, 1024)) > unaware_bytes


@given(st.integers(1, 1 << 24), st.sampled_from(["adamw_8bit", "paged_adamw_8bit"]))
def test_eight_bit_state_never_costs_more_than_thirty_two(elements: int, optimizer: str) -> None:
    small, large = state_of(tensor(elements), optimizer), state_of(tensor(elements), "paged_adamw_32bit")
    assert small.device_bytes + small.paged_bytes <= large.device_bytes + large.paged_bytes + 1_024


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        ("lion_32bit", State(262_144)),
        ("lion_8bit", State(65_536 + 1_024)),
        ("rmsprop_bnb_8bit", State(65_536 + 1_024)),
        ("ademamix", State(3 * 262_144)),
        ("ademamix_8bit", State(3 * 65_536 + 3 * 1_024)),
        ("rmsprop", State(262_144)),
        ("adagrad", State(262_144)),
        ("schedule_free_adamw", State(2 * 262_144)),
        ("schedule_free_sgd", State(262_144)),
        ("adamw_torch_8bit", State(2 * (65_536 + 1_024 + 1_024))),
        ("adamw_torch_4bit", State(2 * (32_768 + 1_024 + 512))),
    ],
)
def test_state_of_a_rank_16_matrix_with_the_other_optimizers(optimizer: Optimizer, state: State) -> None:
    assert state_of(tensor(16, 4096), optimizer) == state


def test_both_means_of_a_paged_ademamix_can_leave_the_card() -> None:
    state = state_of(tensor(16, 11_008), "paged_ademamix_8bit")
    assert state.paged_bytes == 3 * 16 * 11_008


def test_muon_keeps_one_momentum_of_a_matrix_and_two_moments_of_heads_and_vectors() -> None:
    matrix, vector = tensor(64, 4096), tensor(4096)
    assert state_of(matrix, "muon") == State(4 * 64 * 4096)
    assert state_of(vector, "muon") == State(2 * 4 * 4096)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        assert state_of(replace(matrix, name=name), "muon") == State(2 * 4 * 64 * 4096)


@pytest.mark.parametrize(
    "section", [{"fsdp": {}}, {"deepspeed": {"zero_optimization": {"stage": 2}}}, {"device_map": "auto"}]
)
def test_muon_is_refused_where_matrices_are_cut(section: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Request.parse({"model": "gpt2", "gpu": "t4", "gpus": 2, "training": {"optim": "muon"}, **section})
    assert [problem.field for problem in caught.value.problems] == ["training.optim"]


def test_every_name_of_training_arguments_is_planned_or_refused_with_a_reason() -> None:
    of_arguments = {*NAMES, *NOT_PLANNED} - {"muon"}
    assert len(of_arguments) == len(NAMES) + len(NOT_PLANNED) - 1 == 41
    assert KEPT.keys() == set(NAMES)
    assert not OF_TRAINERS.keys() & {*NAMES, *NOT_PLANNED}
    for name, why in {**NOT_PLANNED, **OF_TRAINERS}.items():
        with pytest.raises(InvalidRequestError) as caught:
            Request.parse({"model": "gpt2", "gpu": "t4", "training": {"optim": name}})
        assert [(problem.field, why in problem.message) for problem in caught.value.problems] == [
            ("training.optim", True)
        ]


@given(st.integers(1, 1 << 24), st.sampled_from(NAMES))
def test_no_state_is_larger_than_three_float32_copies(elements: int, optimizer: Optimizer) -> None:
    state = state_of(tensor(elements), optimizer)
    assert 0 <= state.device_bytes + state.paged_bytes <= 12 * elements + 8 * 1_024
