"""Sequences cut over cards: torch's context parallelism in a Trainer on virtual cards, beside the formulas."""
