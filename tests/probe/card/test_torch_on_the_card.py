"""The installed torch, unchanged, on cards that are not there."""

import pytest

from planner.probe.card.spec import card_of
from planner.units import GIB, MIB
from tests.probe.card.programs import on_card

CARDS = {"7.5": "t4", "8.6": "rtx-3090", "8.9": "rtx-4090", "9.0": "h100-sxm-80gb", "12.0": "rtx-5090"}


@pytest.mark.parametrize("capability", CARDS)
def test_a_card_of_each_generation_trains_a_layer(capability: str) -> None:
    card = card_of(CARDS[capability])
    seen = on_card(
        f"""
        insert({CARDS[capability]!r})
        import torch
        properties = torch.cuda.get_device_properties(0)
        layer = torch.nn.Linear(256, 256, device="cuda")
        optimizer = torch.optim.AdamW(layer.parameters())
        for _ in range(2):
            layer(torch.randn(64, 256, device="cuda")).float().pow(2).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        answer |= dict(name=properties.name, capability=list(torch.cuda.get_device_capability()),
            total=properties.total_memory, multiprocessors=properties.multi_processor_count,
            threads=properties.max_threads_per_multi_processor,
            shared=properties.shared_memory_per_block_optin, state=torch.cuda.memory_allocated())
        """
    )
    assert seen["name"] == card.name
    assert ".".join(map(str, seen["capability"])) == capability
    assert seen["total"] == card.total_bytes
    assert seen["multiprocessors"] == card.multiprocessors
    assert seen["threads"] == card.multiprocessor.threads
    assert seen["shared"] == card.multiprocessor.shared_bytes_per_block
    # Weight, bias and two moments of each, in float32; cuBLAS' workspace and step counters come on top.
    assert seen["state"] >= 3 * 4 * (256 * 256 + 256)


def test_memory_runs_out_in_torchs_own_words_and_every_reading_agrees() -> None:
    seen = on_card(
        """
        insert("rtx-4090", limit=8 << 30)
        import torch, pynvml, os
        block = torch.empty(4 << 30, device="cuda", dtype=torch.uint8)
        try: torch.empty(5 << 30, device="cuda", dtype=torch.uint8)
        except torch.OutOfMemoryError as error: answer["message"] = str(error)
        free, total = torch.cuda.mem_get_info()
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        memory, (process,) = pynvml.nvmlDeviceGetMemoryInfo(handle), pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        card = read_card()
        answer |= dict(free=free, total=total, nvml_free=memory.free, nvml_total=memory.total,
            mine=process.pid == os.getpid(), process=process.usedGpuMemory, context=card.context_bytes,
            used=card.device.used_bytes)
        """
    )
    assert seen["message"].startswith(
        "CUDA out of memory. Tried to allocate 5.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
    )
    assert seen["used"] == 4 * GIB
    assert seen["total"] == seen["nvml_total"] == 8 * GIB
    assert seen["free"] == seen["nvml_free"] == 8 * GIB - seen["context"] - 4 * GIB
    assert seen["mine"]
    assert seen["process"] == seen["context"] + seen["used"]


def test_device_managed_and_pinned_memory_are_counted_apart() -> None:
    seen = on_card(
        """
        insert("rtx-3090")
        import torch, bitsandbytes
        weight = torch.nn.Parameter(torch.empty(4096, 4096, device="cuda"))
        weight.grad = torch.empty_like(weight)
        host = torch.empty(3 << 20, dtype=torch.uint8).pin_memory()
        bitsandbytes.optim.PagedAdamW8bit([weight]).step()
        card = read_card()
        answer |= dict(managed=card.managed.used_bytes, pinned=card.pinned.used_bytes, device=card.device.used_bytes,
            reserved=torch.cuda.memory_reserved())
        """
    )
    assert seen["managed"] == 2 * 4096 * 4096  # two moments of one byte
    assert seen["pinned"] >= 3 * MIB
    assert seen["device"] == seen["reserved"]


def test_two_unlike_cards_stand_side_by_side() -> None:
    seen = on_card(
        """
        insert("t4", CustomGpu(total_memory_bytes=10 << 30, compute_capability="8.9", name="small Ada"))
        import torch
        first, second = torch.tensor([1, 2], device="cuda:0"), torch.tensor([3], device="cuda:1")
        answer |= dict(names=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            moved=first.to("cuda:1").tolist(), used=[read_card(i).device.used_bytes for i in range(2)])
        """
    )
    assert seen["names"] == ["Tesla T4", "small Ada"]
    assert seen["moved"] == [1, 2]
    assert seen["used"] == [2 * MIB, 2 * MIB]


def test_what_cannot_be_pretended_refuses_with_its_name() -> None:
    seen = on_card(
        """
        insert("rtx-4090")
        import torch
        x = torch.zeros(8, device="cuda")
        def capture():
            with torch.cuda.graph(torch.cuda.CUDAGraph()): x + x
        for name, call in dict(graph=capture,
                               solver=lambda: torch.linalg.qr(torch.zeros(600, 600, device="cuda"))).items():
            try: call()
            except RuntimeError as error: answer[name] = str(error)
        """
    )
    assert "the virtual card does not pretend cudaStreamBeginCapture" in seen["graph"]
    assert "the virtual card does not pretend cusolver" in seen["stderr"]
    assert "solver" in seen
