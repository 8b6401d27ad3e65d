"""Whole numbers and booleans on a virtual card are what they are on the CPU."""

from tests.probe.values.programs import with_values, without_values


def test_every_whole_number_operator_agrees_with_the_cpu() -> None:
    seen = with_values(
        """
        from tests.probe.values.laws import LAWS, broken
        answer |= dict(broken=broken(examples=8), laws=len(LAWS), noise=values.left_as_noise())
        """
    )
    assert seen["broken"] == {}
    assert seen["noise"] == {}
    assert seen["laws"] > 40


def test_random_whole_numbers_are_in_range_and_follow_the_seed() -> None:
    seen = with_values(
        """
        torch.manual_seed(1)
        first = torch.randint(3, 9, (500,), device="cuda")
        order = torch.randperm(100, device="cuda")
        torch.manual_seed(1)
        answer |= dict(low=first.min().item(), high=first.max().item(), order=sorted(order.tolist()),
            shuffled=order.tolist() != sorted(order.tolist()),
            again=torch.equal(first, torch.randint(3, 9, (500,), device="cuda")))
        """
    )
    assert (seen["low"], seen["high"]) == (3, 8)
    assert seen["order"] == list(range(100))
    assert seen["shuffled"]
    assert seen["again"]


def test_threads_and_the_backward_pass_see_the_same_numbers() -> None:
    seen = with_values(
        """
        import threading
        class Keep(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x, mask):
                ctx.save_for_backward(mask)
                return x[mask]
            @staticmethod
            def backward(ctx, grad):
                mask, = ctx.saved_tensors
                answer["backward"] = (mask.cumsum(0) * 2)[mask].tolist()
                answer["thread"] = threading.current_thread() is not threading.main_thread()
                return torch.zeros(mask.shape, device="cuda"), None
        x = torch.randn(6, device="cuda", requires_grad=True)
        Keep.apply(x, torch.arange(6, device="cuda") % 2 == 0).sum().backward()
        def load(): answer["loader"] = torch.arange(5, device="cuda").flip(0).tolist()
        thread = threading.Thread(target=load); thread.start(); thread.join()
        """
    )
    assert seen["backward"] == [2, 4, 6]
    assert seen["loader"] == [4, 3, 2, 1, 0]


def test_the_allocator_sees_the_same_requests_with_the_rules_as_without() -> None:
    program = """
        torch.manual_seed(0)
        torch.cuda.memory._record_memory_history(max_entries=10**6, stacks="python")
        layer = torch.nn.TransformerEncoderLayer(64, 4, batch_first=True, device="cuda", dtype=torch.bfloat16)
        optimizer = torch.optim.AdamW(layer.parameters())
        x = torch.randn(2, 16, 64, device="cuda", dtype=torch.bfloat16)
        for _ in range(2):
            y = torch.cat([layer(x), x * 2 + 1]).float().softmax(-1)
            (y.topk(4, -1).values.sum() + torch.where(y > 0, y, -y).sort(-1).values.mean()).backward()
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            optimizer.step(); optimizer.zero_grad()
        events = torch.cuda.memory._snapshot()["device_traces"][0]
        # Addresses as (segment in the order of coming, offset): two processes' segments lie anywhere.
        segments = [(e["addr"], e["addr"] + e["size"]) for e in events if e["action"] == "segment_alloc"]
        def place(address): return next((n, address - s) for n, (s, end) in enumerate(segments) if s <= address < end)
        answer["events"] = [(e["action"], e["size"], place(e["addr"])) for e in events]
    """
    with_rules = with_values(program)["events"]
    without = without_values(program)["events"]
    assert len(with_rules) > 300
    assert with_rules == without


def test_floats_that_come_from_the_host_make_no_page_of_the_card_resident() -> None:
    seen = with_values(
        """
        def resident_bytes():
            with open("/proc/self/statm") as pages:
                return int(pages.read().split()[1]) * 4096
        adapter = torch.ones(512, 1024)
        adapter.cuda()
        before = resident_bytes()
        kept = [adapter.cuda() for _ in range(64)]
        answer["grown_bytes"] = resident_bytes() - before
        """
    )
    assert seen["grown_bytes"] < 64 * 512 * 1024 * 4 / 8
