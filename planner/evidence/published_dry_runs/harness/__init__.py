"""Runs in the environment of a publication, where only its releases are installed; Fitproof itself never imports it."""
