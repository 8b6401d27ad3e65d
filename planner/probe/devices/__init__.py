"""Where a run is measured: CPU tensors, a CUDA card, a virtual card."""
