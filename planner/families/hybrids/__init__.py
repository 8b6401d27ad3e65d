"""Decoders that have a state in the place of attention in most of their layers."""
