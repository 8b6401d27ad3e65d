"""Attention variants: what each allocates, saves and takes during its backward pass."""
