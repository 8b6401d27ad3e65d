"""What people write in a card's place gets a card, a tier of cards, or the reason why there is none."""

import pytest

from planner.catalog import find_gpu, resolve_gpu
from planner.catalog.machines import Machine, machines, what_is_in
from planner.catalog.names import normal_form
from planner.errors import UnknownGpuError
from planner.request.schema import CustomGpu


def answer(name: str) -> str:
    with pytest.raises(UnknownGpuError) as error:
        find_gpu(name)
    (problem,) = error.value.problems
    return problem.message


@pytest.mark.parametrize(
    "name",
    ["RTX 4090 24GB", "rtx4090 (24 GB)", "NVIDIA GeForce RTX 4090 24GB GDDR6X", "4090 24gb vram", "RTX 4090 GPU"],
)
def test_a_card_beside_its_own_memory_is_that_card(name: str) -> None:
    assert find_gpu(name).id == "rtx-4090"


def test_a_card_beside_another_memory_is_not_guessed_at() -> None:
    assert answer("RTX 4090 12GB") == "rtx-4090 is sold with 24 GB, not 12; ask for rtx-4090"
    assert find_gpu("3080 12GB").id == "rtx-3080-12gb"


@pytest.mark.parametrize(
    ("name", "card"),
    [("2x3090", "rtx-3090"), ("2 x RTX 3090", "rtx-3090"), ("3090 24GB x 2", "rtx-3090"), ("8xH100", "h100-sxm-80gb"),
     ("dual 4090", "rtx-4090"), ("T4 x2", "t4"), ("2\u00d74090", "rtx-4090")],
)  # fmt: skip
def test_several_cards_are_answered_with_the_one_that_a_run_is_planned_on(name: str, card: str) -> None:
    assert answer(name).endswith(f"ask for {card}")


@pytest.mark.parametrize("name", ["24gb", "24 GB", "24GB VRAM", "24 GiB gpu"])
def test_a_size_of_memory_is_answered_with_the_cards_of_that_size(name: str) -> None:
    message = answer(name)
    assert message.startswith("cards with 24 GB: ")
    assert {"rtx-3090", "rtx-4090", "l4", "a10"} <= set(message.removesuffix("; name one")[18:].split(", "))


def test_a_family_is_answered_with_its_cards_alone() -> None:
    assert "a100-pcie-40gb, a100-pcie-80gb, a100-sxm-40gb, a100-sxm-80gb?" in answer("A100")
    assert "v100-16gb, v100-32gb?" in answer("v100")


@pytest.mark.parametrize(
    ("name", "words"),
    [("colab", "t4"), ("Google Colab free", "t4"), ("kaggle", "t4"), ("g5.xlarge", "a10g"),
     ("p4d.24xlarge", "a100-sxm-40gb"), ("a2-highgpu-1g", "a100-sxm-40gb"), ("g2-standard-8", "l4"),
     ("Standard_NC24ads_A100_v4", "a100-pcie-80gb"), ("NC40ads H100 v5", "h100-nvl-94gb"),
     ("Standard_ND96isr_H100_v5", "h100-sxm-80gb"), ("NC4as_T4_v3", "t4"), ("runpod", "nvidia-smi"),
     ("Jetson Orin 64GB", "shared with the system")],
)  # fmt: skip
def test_a_rented_machine_is_answered_with_the_cards_in_it(name: str, words: str) -> None:
    """A machine with one card is an alias of it; one of several kinds is told which."""
    try:
        found = resolve_gpu(name).id
    except UnknownGpuError:
        found = answer(name)
    assert words in found


@pytest.mark.parametrize("machine", machines(), ids=lambda machine: machine.id)
def test_each_machine_has_a_card_of_the_catalogue_and_its_sizes_mean_it(machine: Machine) -> None:
    card = find_gpu(machine.card).id
    assert card in machine.says
    assert {find_gpu(name).id for name in machine.one_card} <= {card}
    assert {what_is_in(normal_form(name)) for name in machine.one_card} <= {machine.says}


@pytest.mark.parametrize(
    "name", ["M3 Max", "MacBook Pro", "RX 7900 XTX", "radeon", "Arc A770", "gaudi2", "TPU v3", "cpu"]
)
def test_another_makers_device_is_not_supported_for_a_reason(name: str) -> None:
    assert "ot supported, because" in answer(name)


def test_apples_own_row_does_not_ask_for_cuda_properties() -> None:
    assert "torch.cuda" not in answer("mps")


def test_a_card_by_its_memory_alone_says_which_kernels_are_supposed() -> None:
    supposed = resolve_gpu(CustomGpu(total_memory_bytes=24 << 30))
    given = resolve_gpu(CustomGpu(total_memory_bytes=24 << 30, compute_capability="8.9"))
    assert (supposed.compute_capability, supposed.name) == ((8, 9), "custom card, as compute capability 8.9")
    assert given.name == "custom card"
