"""The document that every door accepts, its validation, and the recipe it stands for once defaults are filled in."""
