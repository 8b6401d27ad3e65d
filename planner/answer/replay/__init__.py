"""A run played through torch's allocator: what it makes when, and the bytes that are reserved for it."""
