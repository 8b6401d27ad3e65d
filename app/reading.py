"""The boundary of everything that reads what a stranger wrote: whatever goes wrong there is the input's fault."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from planner.errors import FieldProblem, FitproofError, InvalidRequestError

_LOG = logging.getLogger(__name__)


@contextmanager
def reading(what: str, field: str = "request") -> Iterator[None]:
    """Turn any unexpected exception into a refusal of `what`, at `field`. The log has the traceback: it is our bug.

    Raises:
        InvalidRequestError: nothing else leaves, but the errors that say themselves what is wrong.
    """
    try:
        yield
    except FitproofError:
        raise
    except Exception as error:  # a stranger's bytes meet parsers here, ours and others'; none may take the server down
        _LOG.exception("unforeseen error while reading %s", what)
        problem = FieldProblem(field, f"cannot be read ({type(error).__name__}); write it more plainly")
        raise InvalidRequestError(f"What was sent cannot be read as {what}.", [problem]) from error
