"""A step whose layers lie on several cards: which tensor is on which card, when, and the most that each holds."""
