"""Starts processes that outlive their parents, and trains nothing."""

import subprocess
import sys

subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)  # left behind"], start_new_session=True)
