"""Running a model after training: weights, the cache of keys and values, and what an engine takes beside them."""
