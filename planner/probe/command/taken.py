"""Memory of the cards that others hold already: a desktop, another program. It is a peer like any other process."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

# planner/probe/card/src/peers.cpp, `struct Page`: the owner's process id, then bytes by card.
_CARDS = 64


@contextmanager
def taken(card_set: str, each_bytes: int) -> Iterator[None]:
    """Let every card of the set have `each_bytes` less to give, as long as the block runs."""
    if not each_bytes:
        yield
        return
    file = os.memfd_create(f"fitproof-{card_set}", os.MFD_CLOEXEC)
    try:
        os.write(file, struct.pack(f"={1 + _CARDS}Q", os.getpid(), *[each_bytes] * _CARDS))
        yield
    finally:
        os.close(file)
