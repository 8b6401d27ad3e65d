"""Where probes run: this machine, or an existing Ray cluster."""
