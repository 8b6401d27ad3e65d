"""A measurement beside the plan that was made before it."""

from collections.abc import Mapping
from typing import Any

from planner.answer.document import VERSIONS
from planner.measurement import Measurement
from planner.overheads.table import overheads
from planner.units import format_gib


def prediction_error(prediction: Mapping[str, Any] | None, measurement: Measurement) -> float | None:
    """Return (predicted - measured) / measured peak; None without a plan, or where memory ran out before the peak."""
    if prediction is None or measurement.outcome != "ok" or measurement.peak_allocated_bytes <= 0:
        return None
    predicted_bytes = int(prediction["peak_allocated_bytes"])
    return (predicted_bytes - measurement.peak_allocated_bytes) / measurement.peak_allocated_bytes


def explanations(prediction: Mapping[str, Any] | None, measurement: Measurement) -> list[str]:
    """Say why the measurement may differ from the plan: always what was unlike, and where, once it is over the band."""
    reasons = list(measurement.notes)
    if measurement.outcome == "out_of_memory":
        reasons.append(f"Memory ran out in {measurement.failed_phase}; what comes after it was not measured.")
    if measurement.instrument == "cpu":
        reasons.append("A processor's kernels keep other tensors than a card's; the formula follows the card.")
    reasons += [
        f"The formula was held to {name} {foreseen}; this ran on {found}."
        for name, foreseen in VERSIONS.items()
        if (found := measurement.versions.get(name)) and not found.startswith(foreseen)
    ]
    error = prediction_error(prediction, measurement)
    band = overheads().formula_band(str(measurement.request.get("method", "qlora")))
    if error is not None and not band.low <= error <= band.high:
        reasons.append(_over_the_band(prediction, measurement, error, band.high))
    return reasons


def _over_the_band(
    prediction: Mapping[str, Any] | None, measurement: Measurement, error: float, band_fraction: float
) -> str:
    rows = [row for row in phase_comparison(prediction, measurement) if row["predicted_bytes"] is not None]
    worst = max(rows, key=lambda row: abs(row["measured_bytes"] - row["predicted_bytes"]), default=None)
    said = f"The peak is {abs(error):.1%} {'below' if error > 0 else 'above'} the formula's, which is held to "
    said += f"{band_fraction:.1%} of a dry run"
    if worst is None:
        return f"{said}."
    size = format_gib(abs(worst["measured_bytes"] - worst["predicted_bytes"]))
    return f"{said}; the largest difference is in {worst['name']}, {size}."


def phase_comparison(prediction: Mapping[str, Any] | None, measurement: Measurement) -> list[dict[str, Any]]:
    """Each measured phase beside the same phase of the plan; a phase the plan does not have stands alone."""
    foreseen = {phase["name"]: phase["allocated_bytes"] for phase in (prediction or {}).get("phases", ())}
    return [
        {
            "name": phase.name,
            "measured_bytes": phase.peak_allocated_bytes,
            "predicted_bytes": foreseen.get(phase.name),
            "resident_bytes": phase.resident_bytes,
            "seconds": phase.seconds,
        }
        for phase in measurement.phases
    ]
