"""The tensors that an optimizer's step makes beside states and gradients, by the variables that hold them."""

from collections.abc import Callable

from planner.units import allocated

# Bytes that the means of a matrix of this shape take while they are made, by column (planner/memory/row_sums.py).
ColumnMeans = Callable[[tuple[int, ...]], int]


class StepTensors:
    """The tensors of a step by the names that hold them; keeps the most that was there at once."""

    def __init__(self, column_means: ColumnMeans | None = None) -> None:
        self.column_means = column_means
        self._bytes: dict[str, int] = {}
        self._total_bytes = self._peak_bytes = 0
        self.worst: list[tuple[int, int]] = []
        self._given_back = 0

    def make(self, name: str, size_bytes: int) -> None:
        """A new tensor under `name`; what it held is there until then."""
        before_bytes = self._bytes.pop(name, 0)
        self._bytes["new"] = allocated(size_bytes)
        self._total_bytes += self._bytes["new"]
        if self._total_bytes > self._peak_bytes:
            self._peak_bytes = self._total_bytes
            self.worst = [(held, 1) for held in (*self._bytes.values(), before_bytes) if held]
        self._bytes[name] = self._bytes.pop("new")
        self._total_bytes -= before_bytes

    def drop(self, *names: str) -> None:
        """Names that go out of scope, or hold something that is there anyway."""
        self._total_bytes -= sum(self._bytes.pop(name, 0) for name in names)

    def rename(self, name: str, new: str) -> None:
        """`new` holds what `name` did."""
        self.drop(new)
        self._bytes[new] = self._bytes.pop(name)

    def give_back(self, size_bytes: int, name: str) -> None:
        """Something goes that was there before the step; what `name` holds is in its place to the end."""
        self._given_back += 1
        self._bytes[f"given back {self._given_back}"] = self._bytes.pop(name) - allocated(size_bytes)
        self._total_bytes -= allocated(size_bytes)
