"""The annex: a program that runs one real training step and measures it. Nobody imports it."""
