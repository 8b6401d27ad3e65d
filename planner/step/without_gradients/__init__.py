"""Forwards without gradients that take turns with training: evaluation, and what `generate` makes and keeps."""
