"""The record of truth: models, sessions and migrations."""
