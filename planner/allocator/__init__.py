"""A model of PyTorch's CUDA caching allocator, and the load phase played through it."""
