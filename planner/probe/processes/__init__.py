"""The processes a probe runs in: warm, forked, and how they end."""
