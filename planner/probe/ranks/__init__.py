"""A step on several cards: each rank a process with a card of its own, and no peer on the other end of a collective."""
