"""The installed torch, unchanged, on cards that are not there."""

from pathlib import Path

import pytest

from planner.probe.card.spec import card_of
from planner.units import GIB, MIB
from tests.probe.card.programs import on_card

CARDS = {"7.5": "t4", "8.6": "rtx-3090", "8.9": "rtx-4090", "9.0": "h100-sxm-80gb", "12.0": "rtx-5090"}


@pytest.mark.parametrize("capability", CARDS)
def test_a_card_of_each_generation_trains_a_layer(capability: str, tmp_path: Path) -> None:
    card = card_of(CARDS[capability])
    seen = on_card(
        tmp_path,
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
        """,
    )
    assert seen["name"] == card.name
    assert ".".join(map(str, seen["capability"])) == capability
    assert seen["total"] == card.total_bytes
    assert seen["multiprocessors"] == card.multiprocessors
    assert seen["threads"] == card.multiprocessor.threads
    assert seen["shared"] == card.multiprocessor.shared_bytes_per_block
    # Weight, bias and two moments of each, in float32; cuBLAS' workspace and step counters come on top.
    assert seen["state"] >= 3 * 4 * (256 * 256 + 256)


def test_memory_runs_out_in_torchs_own_words_and_every_reading_agrees(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
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
        """,
    )
    assert seen["message"].startswith(
        "CUDA out of memory. Tried to allocate 5.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
    )
    assert seen["used"] == 4 * GIB
    assert seen["total"] == seen["nvml_total"] == 8 * GIB
    assert seen["free"] == seen["nvml_free"] == 8 * GIB - seen["context"] - 4 * GIB
    assert seen["mine"]
    assert seen["process"] == seen["context"] + seen["used"]


def test_device_managed_and_pinned_memory_are_counted_apart(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
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
        """,
    )
    assert seen["managed"] == 2 * 4096 * 4096  # two moments of one byte
    assert seen["pinned"] >= 3 * MIB
    assert seen["device"] == seen["reserved"]


def test_two_unlike_cards_stand_side_by_side(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("t4", CustomGpu(total_memory_bytes=10 << 30, compute_capability="8.9", name="small Ada"))
        import torch
        first, second = torch.tensor([1, 2], device="cuda:0"), torch.tensor([3], device="cuda:1")
        answer |= dict(names=[torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            moved=first.to("cuda:1").tolist(), used=[read_card(i).device.used_bytes for i in range(2)])
        """,
    )
    assert seen["names"] == ["Tesla T4", "small Ada"]
    assert seen["moved"] == [1, 2]
    assert seen["used"] == [2 * MIB, 2 * MIB]


def test_what_cannot_be_pretended_refuses_with_its_name(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
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
        """,
    )
    assert "the virtual card does not pretend cudaStreamBeginCapture" in seen["graph"]
    assert "the virtual card does not pretend cusolver" in seen["stderr"]
    assert "solver" in seen


def test_cudnn_attention_is_chosen_on_hopper_and_its_workspace_is_called_modelled(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("h100-sxm-80gb")
        import torch
        query = torch.randn(2, 16, 512, 128, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        out = torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        out.backward(torch.empty_like(out))
        answer |= dict(kernel=type(out.grad_fn).__name__, added=torch.cuda.max_memory_allocated() - before,
            modelled=modelled())
        """,
    )
    tensor_bytes = 2 * 16 * 512 * 128 * 2
    assert seen["kernel"] == "ScaledDotProductCudnnAttentionBackward0"
    # The gradients of output, query, key and value, and the query's once more in float32, as cudnn-frontend asks.
    assert seen["added"] == pytest.approx(6 * tensor_bytes, rel=0.01)
    assert "cuDNN's own workspace is modelled as 0 bytes" in seen["modelled"][0]


def test_a_network_of_convolutions_and_batch_normalization_trains_and_is_evaluated(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("rtx-4090")
        import torch
        from torch import nn
        layers = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        net = nn.Sequential(*layers, nn.Linear(64, 10)).cuda()
        optimizer, scaler = torch.optim.SGD(net.parameters(), momentum=0.9), torch.amp.GradScaler("cuda")
        for memory_format in (torch.contiguous_format, torch.channels_last):
            images = torch.randn(16, 3, 32, 32, device="cuda").to(memory_format=memory_format)
            with torch.autocast("cuda", torch.float16):
                loss = net(images).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
        answer["peak"] = torch.cuda.max_memory_allocated()
        with torch.no_grad():
            answer["shape"] = list(net.eval()(images).shape)
        answer["modelled"] = modelled()
        """,
    )
    # Half-precision outputs of the convolution and of its normalization, saved for the backward pass.
    assert seen["peak"] > 2 * 2 * 16 * 64 * 32 * 32
    assert seen["shape"] == [16, 10]
    assert any("batch normalization" in note for note in seen["modelled"])


def test_expandable_segments_grow_within_the_card_and_give_back(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("l4", limit=4 << 30)
        import torch
        blocks = [torch.empty(100 << 20, device="cuda", dtype=torch.uint8) for _ in range(20)]
        answer["segments"] = len(torch.cuda.memory_snapshot())
        answer["used"], answer["reserved"] = read_card().device.used_bytes, torch.cuda.memory_reserved()
        try: torch.empty(3 << 30, device="cuda", dtype=torch.uint8)
        except torch.OutOfMemoryError as error: answer["message"] = str(error)
        del blocks
        torch.cuda.empty_cache()
        answer["after"] = read_card().device.used_bytes
        """,
        PYTORCH_CUDA_ALLOC_CONF="expandable_segments:True",
    )
    assert seen["segments"] == 1
    assert seen["used"] == seen["reserved"] == 2000 * MIB
    assert "Tried to allocate 3.00 GiB" in seen["message"]
    assert seen["after"] == 0


def test_the_drivers_own_pools_count_too(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("l4")
        import torch
        block = torch.empty(100 << 20, device="cuda", dtype=torch.uint8)
        answer |= dict(used=read_card().device.used_bytes, reserved=torch.cuda.memory_reserved())
        """,
        PYTORCH_CUDA_ALLOC_CONF="backend:cudaMallocAsync",
    )
    assert seen["used"] == seen["reserved"] == 128 * MIB


def test_whole_numbers_travel_truly_and_floats_cost_no_memory(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        import resource
        insert("h200")
        import torch
        ids = torch.arange(300_000)
        weights = [torch.empty(1 << 30, device="cuda", dtype=torch.bfloat16) for _ in range(40)]
        copies = [weight.clone() for weight in weights[:10]]
        from_host = torch.empty(1 << 30, dtype=torch.bfloat16).cuda().cpu()
        there = ids.cuda().clone()
        zeros = torch.zeros(8192, 8192, dtype=torch.bool, device="cuda").clone()
        answer |= dict(kept=bool((there.cpu() == ids).all()), zeros=not zeros.cpu().any(),
            resident=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)
        """,
    )
    assert seen["kept"]
    assert seen["zeros"]
    assert seen["resident"] < GIB


def test_without_address_space_a_sentence_says_so(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        import resource
        insert("rtx-4090")
        import torch
        torch.zeros(1, device="cuda")
        resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
        try: torch.empty(20 << 30, device="cuda", dtype=torch.uint8)
        except RuntimeError as error: answer["message"], answer["kind"] = str(error), type(error).__name__
        """,
    )
    assert "the virtual card needs address space, not memory" in seen["message"]
    assert "ulimit -v unlimited" in seen["message"]
    assert seen["kind"] != "OutOfMemoryError"


def test_where_private_address_space_is_refused_a_sparse_file_has_it(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        import resource
        insert("rtx-4090")
        import torch
        torch.zeros(1, device="cuda")
        # Refuses private pages as vm.overcommit_memory=2 does; shared ones stay allowed.
        resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
        block = torch.empty(20 << 30, device="cuda", dtype=torch.uint8)
        ids = torch.arange(100_000).cuda()
        answer |= dict(kept=int(ids.clone().cpu().sum()), file="memfd:fitproof-card" in open("/proc/self/maps").read())
        """,
    )
    assert seen["kept"] == sum(range(100_000))
    assert seen["file"]


def test_addresses_fall_whatever_holes_the_process_has(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("t4")
        import mmap, torch
        hole = mmap.mmap(-1, 1 << 30)
        blocks = [torch.empty(30 << 20, device="cuda", dtype=torch.uint8)]
        hole.close()
        blocks += [torch.empty(size << 20, device="cuda", dtype=torch.uint8) for size in (64, 2, 30, 512, 20)]
        answer["addresses"] = [block.data_ptr() for block in blocks]
        """,
    )
    assert seen["addresses"] == sorted(seen["addresses"], reverse=True)
