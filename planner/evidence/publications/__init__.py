"""Runs that others published, as data, and what turned their tables into ours."""
