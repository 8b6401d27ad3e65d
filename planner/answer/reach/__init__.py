"""How far a run stretches: the largest batch and length, the fewest cards, what to train on a card."""
