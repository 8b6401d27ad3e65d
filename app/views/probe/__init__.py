"""Prove it: order a probe from a plan's page, watch it, and see what it says of the question."""
