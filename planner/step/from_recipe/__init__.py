"""What a recipe decides of a step: which tensors there are (switches), and their dimensions (numbers)."""
