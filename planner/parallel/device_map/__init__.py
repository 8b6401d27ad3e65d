"""`device_map` over several cards: one process, the layers in turn over its cards, one card computing at a time."""
