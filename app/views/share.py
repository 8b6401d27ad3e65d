"""A plan as text to paste elsewhere: a link, curl, the command line, Python."""

import json
import shlex
from collections.abc import Mapping
from typing import Any


def copies(origin: str, query: str, asked: Mapping[str, Any]) -> dict[str, str]:
    """Every way to ask the same again. `asked` is the request without its defaults."""
    return {
        "Link": f"{origin}/plan?{query}",
        "curl": f"curl -sS {origin}/api/v1/plans \\\n  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(asked))}",
        "Command line": f"fitproof plan --request - <<'JSON'\n{json.dumps(asked, indent=2)}\nJSON",
        "Python": (
            "from planner.answer.plan import plan\nfrom planner.request.schema import Request\n\n"
            f"answer = plan(Request.parse({dict(asked)!r}))\n"
            "print(answer.verdict, answer.headroom_bytes)"
        ),
    }
