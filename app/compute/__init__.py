"""Everything that computes, in processes beside the server: it only waits for them, and can give any of them up."""
