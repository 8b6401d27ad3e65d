"""Run every benchmark, or the ones named on the command line: plans, cold, web."""

import sys

from tests.bench import cold, plans, web

BENCHMARKS = {"plans": plans.run, "cold": cold.run, "web": web.run}

for name in sys.argv[1:] or BENCHMARKS:
    print(f"\n{name}")
    BENCHMARKS[name]()
