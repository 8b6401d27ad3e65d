"""The environment of programs under test is without hqq: where it is installed, transformers imports it for a cache
that none of them has, and it torch's compiler, a quarter of a run's processor time.
"""

import sys

sys.modules["hqq"] = None  # as importlib.util.find_spec reads it: not installed
