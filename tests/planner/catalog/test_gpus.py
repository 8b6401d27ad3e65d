import re

import pytest

from planner.catalog import find_gpu, resolve_gpu, search_gpus
from planner.catalog.gpu_rows import gpu_catalog
from planner.errors import UnknownGpuError
from planner.request.schema import CustomGpu
from planner.units import GIB, MIB

UNPLANNABLE = {"apple-silicon", "mi325x"}


def cards():
    return gpu_catalog().cards.values()


def test_all_88_cards_load():
    assert len(cards()) == 88


def test_every_card_names_its_sources():
    for card in cards():
        assert card.row.sources
        assert all(reading.source for reading in (*card.row.nvidia_smi, *card.row.torch_total))


def test_only_cards_without_any_reading_cannot_be_planned_on():
    assert {card.row.id for card in cards() if card.gpu is None} == UNPLANNABLE


def test_no_card_gives_more_than_its_nominal_size():
    for card in cards():
        if card.gpu:
            assert 0.9 < card.gpu.usable_bytes / (card.row.nominal_gb * GIB) <= 1, card.row.id


def test_usable_memory_is_below_what_the_driver_prints():
    for card in cards():
        sample = card.row.sample()
        if card.gpu and sample.smi_mib:
            assert card.gpu.usable_bytes < sample.smi_mib * MIB


def test_windows_prints_the_drivers_total():
    for card in cards():
        sample = card.row.sample()
        for system, size in sample.torch_readings:
            if system == "windows_or_wsl" and sample.smi_mib:
                assert abs(size - sample.smi_mib * MIB) < 2 * MIB, card.row.id


def test_every_id_alias_and_driver_name_finds_its_card():
    for card in cards():
        for name in (card.row.id, card.row.id.upper(), *card.row.aliases, card.row.name):
            assert gpu_catalog().find(name) is card


@pytest.mark.parametrize(
    ("typed", "gpu_id"),
    [
        ("4090", "rtx-4090"),
        ("RTX4090", "rtx-4090"),
        ("GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 3060", "rtx-3060-12gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm-80gb"),
        ("Tesla V100-SXM2-16GB", "v100-16gb"),
        ("Tesla T4", "t4"),
        ("h100", "h100-sxm-80gb"),
        ("A100-SXM4-80GB", "a100-sxm-80gb"),
        ("3090ti", "rtx-3090-ti"),
        ("a6000", "rtx-a6000"),
        ("DGX Spark", "gb10"),
        ("Tesla P40", "p40"),
        ("RTX 8000", "quadro-rtx-8000"),
    ],
)
def test_a_card_answers_to_what_people_call_it(typed, gpu_id):
    assert find_gpu(typed).id == gpu_id


def test_the_4090_gives_torch_less_than_24_gib():
    gpu = find_gpu("rtx-4090")
    assert gpu.usable_bytes == 24081 * MIB
    assert (gpu.usable_evidence, gpu.compute_capability) == ("measured", (8, 9))
    assert gpu.native_bfloat16


def test_the_ecc_state_behind_a_figure_is_told():
    assert "ECC on" in find_gpu("t4").note
    assert find_gpu("rtx-a5000").usable_bytes == 24248 * MIB
    assert "22,721 ECC on" in find_gpu("rtx-a5000").note


def test_a_derived_figure_says_so():
    gpu = find_gpu("rtx-4070-ti")
    assert gpu.usable_evidence == "modelled"
    assert "12,282 MiB less 483 MiB" in gpu.usable_source


def test_24gb_lists_every_24_gb_card_and_no_other():
    found = {card.row.id for card in search_gpus("24gb")}
    assert found == {card.row.id for card in cards() if card.row.nominal_gb == 24}
    assert {card.row.id for card in search_gpus("24 GB desktop")} < found


def test_a_search_puts_the_desktop_card_first():
    assert [card.row.id for card in search_gpus("4090")] == ["rtx-4090", "rtx-4090-laptop"]


def test_an_unknown_card_gets_suggestions_and_the_way_out():
    with pytest.raises(UnknownGpuError) as caught:
        find_gpu("4060 ti")
    (problem,) = caught.value.problems
    assert problem.field == "gpu"
    assert "rtx-4060-ti-16gb, rtx-4060-ti-8gb?" in problem.message
    assert "total_memory_bytes" in problem.message


@pytest.mark.parametrize("gpu_id", sorted(UNPLANNABLE - {"apple-silicon"}))
def test_a_card_of_unknown_memory_says_how_to_plan_on_it(gpu_id):
    with pytest.raises(UnknownGpuError, match="No source says") as caught:
        find_gpu(gpu_id)
    assert "torch.cuda.get_device_properties(0).total_memory" in caught.value.problems[0].message


def test_amd_runs_bitsandbytes_and_apple_does_not_run_its_cuda_path():
    assert find_gpu("mi300x").bitsandbytes_4bit
    assert find_gpu("mi300x").compute_capability is None
    assert not gpu_catalog().find("apple-silicon").row.bitsandbytes_4bit


def test_a_custom_card_is_taken_at_its_word():
    gpu = resolve_gpu(CustomGpu(total_memory_bytes=24 * GIB, compute_capability="7.5"))
    assert (gpu.usable_bytes, gpu.usable_evidence, gpu.compute_capability) == (24 * GIB, "given", (7, 5))
    assert resolve_gpu("4090") is find_gpu("rtx-4090")


def test_ids_are_slugs():
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", card.row.id) for card in cards())
