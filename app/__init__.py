"""The product: HTTP API, site, terminal, database and engines. No memory arithmetic, no torch."""
