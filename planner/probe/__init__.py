"""The annex: a program that runs one real training step and measures it. No other package imports it."""
