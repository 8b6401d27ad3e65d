"""A person's own program on virtual cards: any trainer, any number of processes, in their own environment."""
