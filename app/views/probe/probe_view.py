"""A probe made ready for its page: the stages it went through, and each phase predicted and measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from app.db.models import Event, Probe
from app.drawing.bars import Bars
from app.forms.plan_form import query_of
from app.jobs.comparison import explanations, prediction_error
from app.jobs.states import is_final
from app.templating import size
from app.views.messages import METHOD_NAMES, MOMENTS, distance_in_words, out_of_memory_in_words
from app.views.probe.peak_picture import COLOURS, WORDS, draw_peak
from app.views.probe.phases import PhaseTable, phase_table
from app.views.probe.verdict import proved, seconds_of
from planner.measurement import Measurement, RankReading
from planner.request.schema import Request

# What `python -m planner.probe` says on its way, in order.
STAGES = {
    "import": "Starting",
    "load": "Loading the weights, quantized layer by layer",
    "prepare": "Attaching the adapters",
    "step": "Training step",
    "save": "Saving the adapters",
}
STATES = {
    "queued": "Waiting for a free worker",
    "claimed": "Handed to a worker",
    "running": "Running",
    "succeeded": "Finished",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
INSTRUMENTS = {"dry-run": "Dry run on a virtual card", "cpu": "Run on the processor", "cuda": "Run on the GPU"}


@dataclass(frozen=True, slots=True)
class ProbeView:
    """Everything the probe's page reads."""

    probe: Probe
    events: Sequence[Event]

    @property
    def measurement(self) -> Measurement | None:
        """What the instrument read, once there is an answer."""
        if self.probe.state != "succeeded" or self.probe.measurement is None:
            return None
        return Measurement.model_validate(self.probe.measurement)

    @property
    def title(self) -> str:
        """What is probed."""
        model = self.probe.request["model"]
        name = model.rpartition("/")[2] if isinstance(model, str) else "your config.json"
        cards = f" on {count} cards" if (count := self.probe.request.get("gpus", 1)) > 1 else ""
        return f"{INSTRUMENTS[self.probe.instrument]}: {name}, {METHOD_NAMES[self.probe.request['method']]}{cards}"

    @property
    def asked_at(self) -> str:
        """When it was asked for, to the minute."""
        return datetime.fromtimestamp(self.probe.created_at, UTC).strftime("%d %b, %H:%M UTC")

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return is_final(self.probe.state)

    @property
    def query(self) -> str:
        """The plan that is probed."""
        return query_of(Request.parse(self.probe.request).model_dump(mode="json"))

    @property
    def verdict(self) -> str:
        """The verdict of the reading; `undecided` while there is none, and of a processor's run."""
        measurement = self.measurement
        if measurement is None:
            return "undecided"
        if measurement.outcome == "out_of_memory":
            return "does_not_fit"
        return proved(measurement, self.probe.prediction).verdict

    @property
    def sentence(self) -> str:
        """The state, or the answer, in one sentence."""
        measurement = self.measurement
        if measurement is None:
            return f"{STATES[self.probe.state]}."
        if measurement.outcome == "out_of_memory":
            short = f", {size(measurement.short_bytes)} short" if measurement.short_bytes else ""
            where = str(measurement.failed_phase).removeprefix("first_")
            return f"Out of memory {MOMENTS.get(where, f'in {where}')}{short}."
        return proved(measurement, self.probe.prediction).sentence

    @property
    def how(self) -> str:
        """What was run and how long it took; that a virtual card is one."""
        measurement = self.measurement
        if measurement is None:
            return ""
        where = {
            "dry-run": "A dry run: the real CUDA stack on a virtual card, which counts memory and computes nothing.",
            "cpu": "The step was run on a processor.",
            "cuda": f"The step was run on {measurement.device.name}.",
        }[measurement.instrument]
        seconds = seconds_of(measurement)
        return f"{where} {measurement.steps} steps took {seconds:.1f} seconds." if seconds else where

    @property
    def ranks(self) -> tuple[RankReading, ...]:
        """Each rank of a run on several cards; none where it ran on one."""
        return self.measurement.ranks if self.measurement else ()

    @property
    def is_one_process(self) -> bool:
        """Whether its cards are those of one process, as `device_map` has them, and no ranks."""
        return self.probe.request.get("device_map") is not None

    @property
    def why_apart(self) -> list[str]:
        """Why what was read may differ from what was foreseen."""
        return explanations(self.probe.prediction, self.measurement) if self.measurement else []

    @property
    def stages(self) -> list[tuple[str, str]]:
        """Each stage in words with its state: done, now or ahead."""
        reached = [stage for stage in (_stage(body) for body in self._told) if stage]
        last = reached[-1] if reached else None
        names = list(STAGES)
        rows = []
        for name, words in STAGES.items():
            passed = last is not None and names.index(name) < names.index(last[0])
            if passed or (self.probe.state == "succeeded" and not self.out_of_memory):
                state = "done"
            elif last and name == last[0] and not self.is_final:
                state = "now"
            elif last and name == last[0] and self.out_of_memory:
                state = "failed"
            else:
                state = "ahead"
            count = f" {last[1]}" if last and last[1] and state == "now" else ""
            rows.append((words + count, state))
        return rows

    @property
    def notes(self) -> list[str]:
        """What the dispatcher had to say."""
        return [str(event.body.get("message")) for event in self.events if event.kind == "note"]

    @property
    def error_fraction(self) -> float | None:
        """(predicted - measured) / measured at the peak."""
        return prediction_error(self.probe.prediction, self.measurement) if self.measurement else None

    @property
    def distance(self) -> str:
        """The same in words; empty where nothing can be compared."""
        return "" if self.error_fraction is None else distance_in_words(self.error_fraction)

    @property
    def phases(self) -> PhaseTable:
        """Predicted beside measured, growing while the probe runs."""
        told = [body for body in self._told if "phase" in body]
        failed = self.measurement.failed_phase if self.measurement else None
        return phase_table(self.probe.prediction, self.measurement, told, failed, self.is_final)

    @property
    def peak(self) -> Bars | None:
        """The last step's fullest moment by module; None where nobody looked."""
        parts = self.measurement.peak_parts if self.measurement else ()
        return draw_peak(parts) if parts else None

    @property
    def peak_words(self) -> dict[str, str]:
        """What the parts of its bars are called."""
        return WORDS

    @property
    def peak_colours(self) -> dict[str, str]:
        """The causes whose colours they have."""
        return COLOURS

    @property
    def out_of_memory(self) -> list[str]:
        """What happened when memory ran out, in sentences; empty where it did not."""
        measurement = self.measurement
        if measurement is None or measurement.outcome != "out_of_memory":
            return []
        return out_of_memory_in_words(measurement, self.phases.predicted_in(measurement.failed_phase))

    @property
    def _told(self) -> list[Mapping[str, Any]]:
        """What this attempt's program said on its way, in order."""
        return [event.body for event in self.events if event.kind == "progress" and event.attempt == self.probe.attempt]


def _stage(body: Mapping[str, Any]) -> tuple[str, int] | None:
    stage, index = body.get("stage"), body.get("index")
    return (stage, index if isinstance(index, int) else 0) if stage in STAGES else None
