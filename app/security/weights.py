"""Which real weights a probe may load: none, unless the operator lists them."""

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from app.jobs.order import SYNTHETIC
from planner.errors import FieldProblem, FitproofError
from planner.request.schema import Request

HUB = "hub"


class WeightsNotAllowedError(FitproofError):
    """Real weights that are not on the allow-list."""

    status = 403
    code = "weights_not_allowed"


def check_weights(weights: str, request: Request, allowed: Collection[str]) -> None:
    """Let synthetic weights pass, and real ones that the operator allowed by hub id or folder.

    Raises:
        WeightsNotAllowedError: says which setting would allow them.
    """
    if weights == SYNTHETIC:
        return
    if weights == HUB:
        if isinstance(request.model, str) and request.model in allowed:
            return
    elif any(_lies_in(weights, folder) for folder in allowed):
        return
    fix = "use synthetic weights (memory does not depend on their values), or list them in FITPROOF_WEIGHTS_ALLOWED"
    raise WeightsNotAllowedError("These weights may not be loaded here.", [FieldProblem("weights", fix)])


def _lies_in(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or in it: as text, as it may lie on a worker elsewhere, and by its links where not."""
    inner, outer = PurePosixPath(path), PurePosixPath(folder)
    said = outer.is_absolute() and inner.is_absolute() and ".." not in inner.parts and inner.is_relative_to(outer)
    if not said or not Path(path).exists():
        return said
    return Path(path).resolve().is_relative_to(Path(folder).resolve())
