"""What was measured, by others and by us, and the errors and bands computed from it."""
