"""Linear layers: plain, quantized, and with adapters around them."""
