"""Locked doors: tokens, origins, rates, and which real weights may be read."""
