"""torch's compiler stays out of a dry run, and is there for whoever needs it."""

from pathlib import Path

from tests.probe.card.programs import on_card


def test_decorators_hand_back_what_they_are_given_and_the_compiler_comes_when_more_is_asked(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        insert("t4")
        import sys, torch
        from planner.probe.devices.compiler import leave_compiler_at_home
        leave_compiler_at_home()
        def step(): return 1
        marks = (torch.compile, torch.compiler.disable, torch.compiler.allow_in_graph, torch._dynamo.disable)
        answer["as_given"] = [mark(step) is step for mark in marks] + [torch.compile(dynamic=False)(step) is step]
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(layer.parameters())
        torch.utils.checkpoint.checkpoint(layer, torch.ones(1, 2), use_reentrant=False).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        answer["at_home"] = "torch._inductor" not in sys.modules
        from torch._dynamo.utils import counters
        answer["fetched"] = "torch._inductor" in sys.modules
        answer["once"] = torch._dynamo.utils.counters is counters
        """,
    )
    assert seen["as_given"] == [True] * 5
    assert seen["at_home"]
    assert seen["fetched"]
    assert seen["once"]


def test_the_stack_of_a_run_on_one_card_brings_no_shards(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
        import sys
        from planner.probe.devices.virtual_card import insert_card
        from planner.request.schema import Request
        insert_card(Request.parse({"model": "meta-llama/Llama-2-7b-hf", "gpu": "t4"}))
        answer["phases"] = "planner.probe.training.phases" in sys.modules
        answer["shards"] = {"torch.distributed.fsdp", "torch.distributed.tensor"} & sys.modules.keys() != set()
        """,
    )
    assert seen["phases"]
    assert not seen["shards"]
