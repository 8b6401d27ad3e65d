"""What would make a run fit: changes of its recipe, more cards, smaller models."""
