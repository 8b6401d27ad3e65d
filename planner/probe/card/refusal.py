"""What is said where there can be no virtual card."""

from planner.errors import FitproofError


class VirtualCardError(FitproofError):
    """The virtual card cannot be made or inserted here; the title says why and what to do."""

    code = "virtual_card"
