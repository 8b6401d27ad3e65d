"""Flash's cut of the keys, beside torch's own rule worked by hand and recorded dry runs."""

import pytest

from planner.memory.workspace import flash_may_split, flash_splits


@pytest.mark.parametrize(
    ("sizes", "multiprocessors", "parts"),
    [
        ((1, 1024, 8, 128), 128, 2),  # 128 blocks of 256 at once: two parts of four blocks of keys fill them
        ((1, 1024, 32, 128), 128, 1),  # 512 blocks are enough
        ((1, 128, 8, 128), 128, 1),  # one block of keys cannot be cut
        ((1, 512, 8, 128), 128, 4),  # 64 blocks: every block of keys apart
        ((1, 1024, 8, 64), 128, 2),  # narrow heads: blocks of 256 keys
        ((4, 1024, 8, 128), 128, 1),
    ],
)
def test_keys_are_cut_where_few_queries_leave_the_card_idle(
    sizes: tuple[int, int, int, int], multiprocessors: int, parts: int
) -> None:
    assert flash_splits(*sizes, multiprocessors) == parts


def test_no_card_of_the_catalogue_cuts_where_none_may() -> None:
    sizes = [(b, s, heads) for b in (1, 4) for s in (64, 700, 4096) for heads in (8, 32, 64)]
    cut = {size for size in sizes for count in (40, 128, 188) if flash_splits(*size, 128, count) > 1}
    assert cut <= {size for size in sizes if flash_may_split(*size)}
    assert cut
