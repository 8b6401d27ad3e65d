"""`python -m app.cli`, for environments whose scripts folder is not on the path."""

import sys

from app.cli import main

sys.exit(main())
