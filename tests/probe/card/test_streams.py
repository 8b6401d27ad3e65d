"""Memory that one stream hands to another on a virtual card comes back when the card is known to be done with it."""

from pathlib import Path

from tests.probe.card.programs import on_card

# 64 MiB taken on a side stream and used on the default one, four times, each let go of before the next.
HANDED_OVER = """
insert("rtx-4090")
import torch
side, main = torch.cuda.Stream(), torch.cuda.current_stream()
number = torch.zeros(1, device="cuda")
def taken(wait=lambda: None, use=True):
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    for _ in range(4):
        with torch.cuda.stream(side):
            block = torch.zeros(64 << 20, dtype=torch.uint8, device="cuda")
        if use:
            main.wait_stream(side)
            block.add_(1)
            block.record_stream(main)
        del block
        wait()
    return (torch.cuda.memory_reserved() - before) >> 20
"""


def test_a_block_that_another_stream_used_is_not_there_again_before_the_host_waited(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        HANDED_OVER
        + """
answer["of one stream"] = taken(use=False)
allocated = torch.cuda.memory_allocated()
answer["at once"] = taken()
answer["allocated"] = torch.cuda.memory_allocated() - allocated
answer["after a wait for the card"] = taken(torch.cuda.synchronize)
answer["after a wait for its stream"] = taken(main.synchronize)
answer["after a number was read"] = taken(number.item)
""",
    )
    assert seen["of one stream"] == 64
    assert seen["at once"] == 256
    assert seen["allocated"] == 0
    waits = [megabytes for name, megabytes in seen.items() if name.startswith("after")]
    assert waits == [64, 64, 64]


def test_a_card_that_is_never_behind_gives_it_back_at_once(tmp_path: Path) -> None:
    assert on_card(tmp_path, HANDED_OVER + "answer['taken'] = taken()", FITPROOF_STREAMS="at-once")["taken"] == 64


def test_a_full_card_waits_for_what_is_under_way_before_it_refuses(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        HANDED_OVER
        + """
torch.cuda.set_per_process_memory_fraction((130 << 20) / torch.cuda.get_device_properties(0).total_memory)
answer["taken"] = taken()
""",
    )
    assert seen["taken"] <= 130


def test_a_wait_for_one_stream_is_a_wait_for_what_that_one_waited_for(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
insert("rtx-4090")
import torch
first, second = torch.cuda.Stream(), torch.cuda.Stream()
events = [torch.cuda.Event() for _ in range(3)]
with torch.cuda.stream(first):
    torch.zeros(1, device="cuda")
    events[0].record()
second.wait_event(events[0])
with torch.cuda.stream(first):
    torch.zeros(1, device="cuda")
    events[1].record()
with torch.cuda.stream(second):
    torch.zeros(1, device="cuda")
    events[2].record()
answer["before"] = [event.query() for event in events]
events[2].synchronize()
answer["after"] = [event.query() for event in events]
answer["never recorded"] = torch.cuda.Event().query()
""",
    )
    assert seen["before"] == [False, False, False]
    assert seen["after"] == [True, False, True]
    assert seen["never recorded"]


def test_a_stream_takes_no_more_than_a_thousand_launches_before_the_first_of_them_is_done(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
insert("rtx-4090")
import torch
square = torch.zeros(16, 16, device="cuda")
def done_after(launch):
    torch.cuda.synchronize()
    square.add_(1)
    event = torch.cuda.Event()
    event.record()
    for count in range(2000):
        if event.query():
            return count
        launch()
answer["kernels"] = done_after(lambda: square.add_(1))
answer["products"] = done_after(lambda: torch.mm(square, square, out=square))
""",
    )
    assert seen["kernels"] == seen["products"] == 1024


def test_whoever_only_asks_for_an_event_waits_for_it(tmp_path: Path) -> None:
    seen = on_card(
        tmp_path,
        """
insert("rtx-4090")
import torch
torch.zeros(1, device="cuda")
event = torch.cuda.Event()
event.record()
answer["asked"] = 1
while not event.query():
    answer["asked"] += 1
""",
    )
    assert 1 < seen["asked"] < 1000
