"""Unions told apart by the JSON kind of what was written, so that only the branch that was meant complains."""

from collections.abc import Mapping

from pydantic import BaseModel, Discriminator, Tag

from planner.request.validation.messages import BRANCH_MARK, WRONG_KIND

TEXT, LIST, OBJECT, NUMBER = (Tag(BRANCH_MARK + kind) for kind in ("text", "list", "object", "number"))


def by_kind(fix: str) -> Discriminator:
    """Choose the branch of a union whose branches are marked with the tags above; `fix` says what to write instead."""
    return Discriminator(_kind, custom_error_type=WRONG_KIND, custom_error_message=fix)


def _kind(value: object) -> str | None:
    if isinstance(value, str):
        return BRANCH_MARK + "text"
    if isinstance(value, list | tuple):
        return BRANCH_MARK + "list"
    if isinstance(value, int) and not isinstance(value, bool):
        return BRANCH_MARK + "number"
    return BRANCH_MARK + "object" if isinstance(value, Mapping | BaseModel) else None
