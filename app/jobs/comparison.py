"""A measurement beside the plan that was made before it."""

from collections.abc import Mapping
from typing import Any

from planner.measurement import Measurement


def prediction_error(prediction: Mapping[str, Any] | None, measurement: Measurement) -> float | None:
    """Return (predicted - measured) / measured peak; None without a plan, or where memory ran out before the peak."""
    if prediction is None or measurement.outcome != "ok" or measurement.peak_allocated_bytes <= 0:
        return None
    predicted_bytes = int(prediction["peak_allocated_bytes"])
    return (predicted_bytes - measurement.peak_allocated_bytes) / measurement.peak_allocated_bytes


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
