"""One program for each trainer, as its own documentation writes it, and what a dry run said of it."""
