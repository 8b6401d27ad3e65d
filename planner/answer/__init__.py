"""From a request to its answer: the plan, its verdict, warnings, advice and limits."""
