"""A virtual card is a row of the catalogue, or what a request says of a card."""

import pytest

from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import FitproofError
from planner.probe.card.refusal import VirtualCardError
from planner.probe.card.spec import card_of, cards_of
from planner.request.schema import CustomGpu
from planner.units import GIB

CARDS = {card.row.id: card for card in gpu_catalog().cards.values()}
# Older ones than compute capability 7.0 are in no torch that the card serves.
NVIDIA = {
    name: card.row.capability or (0, 0) for name, card in CARDS.items() if card.gpu and card.row.vendor == "NVIDIA"
}
CUDA = {name for name, capability in NVIDIA.items() if capability >= (7, 0)}


@pytest.mark.parametrize("name", sorted(CUDA))
def test_every_card_of_the_catalogue_with_a_known_total_can_be_pretended(name: str) -> None:
    card, gpu = card_of(name), CARDS[name].gpu
    assert gpu
    assert card.total_bytes == gpu.usable_bytes
    assert 0 < card.context_bytes < GIB
    assert 14 <= card.multiprocessors <= 200
    assert card.multiprocessor.threads % 512 == 0


def test_a_card_of_the_request_has_the_multiprocessors_of_its_nearest_kin() -> None:
    given = CustomGpu(total_memory_bytes=23 * GIB, compute_capability="8.9", name="mine; all=mine")
    card = card_of(given)
    assert card.multiprocessors in {CARDS[name].row.multiprocessors for name in ("rtx-4090", "l4")}
    assert "name=mine  all mine;capability=8.9;" in card.text


@pytest.mark.parametrize("gpu", ["apple-silicon", CustomGpu(total_memory_bytes=GIB, compute_capability="3.5")])
def test_what_is_no_cuda_card_of_today_is_refused_in_one_sentence(gpu: str | CustomGpu) -> None:
    with pytest.raises(VirtualCardError) as refusal:
        card_of(gpu)
    assert refusal.value.title.count(". ") <= 1


def test_an_unknown_name_is_refused_as_everywhere_else() -> None:
    with pytest.raises(FitproofError, match="No card answers to 'rtx 9999'"):
        card_of("rtx 9999")


def test_a_limit_makes_every_card_smaller_and_none_larger() -> None:
    small, same = cards_of(["h200", "t4"], 16 * GIB)
    assert small.total_bytes == 16 * GIB
    assert same == card_of("t4")
