"""The tensors of a model: their inventory, how each is stored, which are adapted and which are trained."""
