"""A bytes-only autograd: buffers with symbolic sizes, the operators on them, and the largest instant of each phase."""
