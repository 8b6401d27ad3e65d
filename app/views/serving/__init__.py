"""The page about running what was trained."""
