"""What a plan is, as data: request, ledger and verdict. What judges it stands above (advice.py, warnings/)."""

from dataclasses import dataclass

from planner.answer.not_planned import NotPlanned
from planner.answer.spread_ledgers import SpreadLedgers
from planner.answer.traced_run import comparison_of
from planner.answer.verdict import Estimate, Required, Verdict
from planner.gpu import Gpu
from planner.lazy_attribute import lazy_attribute
from planner.ledger import Ledger, Line, Phase
from planner.model.model import Model
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.step.recorded import Comparison


@dataclass(frozen=True)
class Planned:
    """One request and the bytes it comes to. What takes longer than the ledger is worked out when it is first read.

    `not_planned`: what the file behind the request asks for beside it, and no formula here plans. `spread`: what each
    card of a `device_map` holds; the plan's card and ledger are then those of the fullest.
    """

    request: Request
    model: Model
    gpu: Gpu
    recipe: Recipe
    ledger: Ledger
    phases: tuple[Phase, ...]
    peak: Phase
    estimate: Estimate
    not_planned: tuple[NotPlanned, ...] = ()
    spread: SpreadLedgers | None = None

    @property
    def peak_allocated_bytes(self) -> int:
        """What torch.cuda.max_memory_allocated() would read."""
        return self.peak.allocated_bytes

    @property
    def peak_phase(self) -> str:
        """The moment of the peak."""
        return self.peak.name

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every cause of bytes."""
        return self.ledger.lines

    @lazy_attribute
    def planned_verdict(self) -> Verdict:
        """Fits, tight or does_not_fit, of what is planned and what is known to lie beside it."""
        return self.estimate.verdict()

    @property
    def verdict(self) -> Verdict:
        """As `planned_verdict`, but never fits where something that moves memory was not planned.

        Nor does a no stand where what was left out may save memory.
        """
        return self.said(self.planned_verdict)

    @lazy_attribute
    def required_bytes(self) -> Required:
        """What the process takes on this card."""
        return self.estimate.required()

    @property
    def smallest_bytes(self) -> int:
        """The smallest capacity likely to survive: what changes are compared by."""
        return self.estimate.smallest_bytes

    @lazy_attribute
    def comparison(self) -> Comparison | None:
        """How the formulas compared with torch's record for these switches, or the nearest that were recorded."""
        return comparison_of(self.model, self.recipe, self.gpu)

    @property
    def usable_bytes(self) -> int:
        """What the driver gives torch on this card."""
        return self.gpu.usable_bytes

    @property
    def headroom_bytes(self) -> int:
        """Usable less likely; negative where it does not fit."""
        return self.usable_bytes - self.required_bytes.likely

    @property
    def paged_bytes(self) -> int:
        """Optimizer state that the driver keeps in host memory until it is needed."""
        return sum(line.bytes for line in self.lines if line.cause == "optimizer" and not line.alive_in)

    @property
    def host_bytes(self) -> int:
        """What one process keeps in host memory: offloaded shards, paged optimizer state."""
        return sum(line.bytes for line in self.lines if line.cause != "runtime" and not line.alive_in)

    def said(self, verdict: Verdict) -> Verdict:
        """`verdict` of what is planned, as it may be told with what is not."""
        if verdict == "does_not_fit":
            return "tight" if any(item.saves for item in self.not_planned) else verdict
        return "tight" if self.not_planned else verdict
