"""What is said of a run that failed where the process may have only so much address space (`ulimit -v`).

A virtual card's memory, a checkpoint's file and torch's libraries are mapped: address space, of which little becomes
memory. Where it runs out, the allocating call fails with its own error: MemoryError, std::bad_alloc, mmap's ENOMEM.
"""

import importlib.util

from planner.units import format_gib


def limit_words() -> str:
    """A sentence that names the limit and the way out; empty where there is none (getrlimit(2), RLIMIT_AS)."""
    if importlib.util.find_spec("resource") is None:  # Windows
        return ""
    import resource  # noqa: PLC0415  # only Unix has it

    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit_bytes == resource.RLIM_INFINITY:
        return ""
    return (
        f"This process may have no more than {format_gib(limit_bytes)} of address space, and torch and a card map far "
        "more than they ever fill: raise the limit (ulimit -v unlimited)."
    )
