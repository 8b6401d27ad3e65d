"""The training run itself with the real libraries: load, prepare, step, save."""
