"""One model as the formulas see it, and what a request means for it."""
