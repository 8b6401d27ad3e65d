"""Feed-forward parts: dense MLPs and mixtures of experts."""
