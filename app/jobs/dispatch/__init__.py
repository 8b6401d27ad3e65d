"""One replica moves probes: who holds the lease, what each live probe needs next, and what is written down."""
