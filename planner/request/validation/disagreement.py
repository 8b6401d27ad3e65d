"""Fields that are valid each by itself and cannot be meant together: all of them at once."""

from collections.abc import Iterable


class FieldsDisagreeError(ValueError):
    """`problems`: one sentence for each, `field: what is wrong and the fix`."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


def refuse_together(problems: Iterable[str | None]) -> None:
    """Refuse all that is wrong; what is empty is not.

    Raises:
        FieldsDisagreeError: names every field.
    """
    found = tuple(dict.fromkeys(filter(None, problems)))
    if found:
        raise FieldsDisagreeError(found)
