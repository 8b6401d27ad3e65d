"""Run every benchmark, or the ones named on the command line: plans, cold, web, service, dry-run."""

import sys

from tests.bench import cold, dry_run_command, plans, service, web

BENCHMARKS = {
    "plans": plans.run,
    "cold": cold.run,
    "web": web.run,
    "service": service.run,
    "dry-run": dry_run_command.run,
}

for name in sys.argv[1:] or BENCHMARKS:
    print(f"\n{name}")
    BENCHMARKS[name]()
