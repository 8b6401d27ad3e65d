"""Meters: who reads device memory while the step runs."""
