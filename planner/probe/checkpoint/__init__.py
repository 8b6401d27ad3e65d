"""Checkpoints without bytes: a real header, and data that is a hole in the file."""
