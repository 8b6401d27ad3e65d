"""`python -m app.cli`, for environments whose scripts folder is not on the path."""

from app.cli import main

main()
