"""Memory by cause, one file each; none knows another."""
