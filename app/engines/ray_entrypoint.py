"""The shell line a Ray node runs. Built so that nothing outlives its limits, its node, or leaks the cluster's token."""

import shlex
from collections.abc import Sequence

from app.engines.base import EngineRefusedError, Job

# Linux refuses a single argument of more than 128 KiB (execve(2), MAX_ARG_STRLEN); Ray hands the line to `sh -c`.
MOST_LINE_BYTES = 120_000
_POLITE_SECONDS = 10
_MARK = "FITPROOF_REQUEST"


def entrypoint(program: Sequence[str], job: Job) -> str:
    """Write the line: limits around the probe, the request as its stdin.

    - `exec`: when a node's raylet dies, Ray ends its direct children only; without it a shell would be that child
      and the probe would run on (measured on Ray 2.60.0).
    - `env -u`: a job inherits the cluster's token, which the probe has no use for; and the hub's, if the node has one.
    - `timeout`: the deadline holds on the node, even with the app gone. `setpriv` ends the probe if `timeout` is
      killed first.
    - The request comes as a here-document because Ray gives a job no stdin. It is one line of JSON, so it cannot
      hold the closing mark.

    Raises:
        EngineRefusedError: the request is too long for a command line.
    """
    secrets = ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", *([] if job.needs_hub else ["HF_TOKEN"])]
    scrub = ["env", *(word for name in secrets for word in ("-u", name))]
    hidden = ["CUDA_VISIBLE_DEVICES="] if job.kind == "cpu" else []
    limit = ["timeout", "--signal=TERM", f"--kill-after={_POLITE_SECONDS}", str(job.timeout_seconds)]
    leash = ["setpriv", "--pdeathsig", "KILL", "--"]
    command = shlex.join([*scrub, *hidden, *limit, *leash, *program, *job.arguments])
    line = f"exec {command} <<'{_MARK}'\n{job.document}\n{_MARK}\n"
    if len(line.encode()) > MOST_LINE_BYTES:
        size = len(line.encode())
        msg = f"the request has {size} bytes; the cluster takes {MOST_LINE_BYTES}. Name the model by its id"
        raise EngineRefusedError(msg)
    return line
