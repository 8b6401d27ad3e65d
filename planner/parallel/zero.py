"""DeepSpeed's ZeRO: what a card holds, read off its source and held to six probes (tests/planner/parallel/probed.py).

deepspeed/runtime/zero, stages 1 and 2 in stage_1_and_2.py DeepSpeedZeroOptimizer, stage 3 in stage3.py and
partitioned_param_coordinator.py. The engine turns the model to 16 bit and keeps float32 copies of what is trained, cut
over the cards, which the optimizer updates. n = trained elements, c = cards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.ledger import Cause, Line
from planner.parallel.units import Unit, Units
from planner.request.parallel import DeepSpeed
from planner.step.engine.beside import Beside, Held, Stretch
from planner.units import allocated

# Both the trace's weights and its gradients are of 16 bit.
HALF_BYTES = 2
_DOUBLE_BYTES = 8
BUCKETS = "ZeRO reduce buckets"
PARTITION = "gradients: this card's part so far"
PARAMETERS = "gathered parameters"
NORMS = "a gradient in float64, for its norm"
_CAUSES: dict[str, Cause] = {
    BUCKETS: "workspace", PARTITION: "gradients", PARAMETERS: "weights", NORMS: "workspace",
}  # fmt: skip
_FORMULAS = {
    BUCKETS: "2 × reduce_bucket_size, twice with overlap_comm",
    PARTITION: "2 n / c of what has been reduced, at last twice",
    NORMS: "8 × the largest trained parameter",
    PARAMETERS: "2 × (the layer in use, what is prefetched, what is used again within max_reuse_distance)",
}
_SOURCES = {
    BUCKETS: "stage_1_and_2.py setup_buckets",
    PARTITION: "stage_1_and_2.py averaged_gradients",
    NORMS: "stage_1_and_2.py set_norm_for_param_grad_in_gpu",
    PARAMETERS: "partitioned_param_coordinator.py fetch_sub_module, __params_to_release",
}


def bucket_bytes(options: DeepSpeed, hidden: int) -> int:
    """One tensor that gradients are copied into to be reduced together."""
    elements = hidden**2 if options.reduce_bucket_size is None else options.reduce_bucket_size
    return allocated(HALF_BYTES * elements)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroStep:
    """What ZeRO holds in each segment of a step. `hidden`: the model's width, from which "auto" is filled in."""

    units: Units
    cards: int
    options: DeepSpeed
    hidden: int

    def beside(self, segments: Sequence[tuple[str, bool]]) -> Beside:
        """A stretch for each segment, told by its phase and whether it is a layer."""
        stretches, counts = [], dict.fromkeys(("forward", "backward"), 0)
        for position, (phase, is_layer) in enumerate(segments):
            direction = "backward" if phase == "backward" else "forward"
            done = counts[direction]
            counts[direction] += is_layer
            held: Held = self._parameters(direction, done, is_layer=is_layer)
            at_end = held
            if direction == "backward":
                at_end = {**held, **self._gradients(done)}
                # The bucket comes with the first gradient, when those of the logits are gone (process_gradients).
                held = at_end if is_layer or done else held
                if not (is_layer or done or _trained(self.units.tail)):
                    at_end = held
                at_end = {**at_end, **self._reduced(done, is_last=position == len(segments) - 1)}
            gone = (0, position) if self._reduces(direction) else (0, 0)
            stretches.append(Stretch(_without_nothing(held), _without_nothing(at_end), gone))
        return Beside(tuple(stretches))

    def line(self, name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        """The ledger's line of one of the names above."""
        return Line(
            name=name, bytes=size_bytes, cause=_CAUSES[name], alive_in=alive_in, formula=_FORMULAS[name],
            working=f"{size_bytes:,}", evidence="modelled", source=f"deepspeed/runtime/zero/{_SOURCES[name]}",
        )  # fmt: skip

    def _reduces(self, direction: str) -> bool:
        """From stage 2 on a gradient goes once its bucket is reduced."""
        return direction == "backward" and self.options.stage >= 2

    def _gradients(self, done: int) -> dict[str, int]:
        """Of stages 1 and 2; stage 3 makes its bucket and its part once (planner/parallel/static.py)."""
        options = self.options
        if options.stage == 3:
            return {}
        found = {BUCKETS: bucket_bytes(options, self.hidden) * (2 if options.overlap_comm else 1)}
        if options.stage == 0:
            return {}
        if options.stage == 2 and options.offload_optimizer == "none":
            trained = _trained(self.units.layer) * done + _trained(self.units.tail)
            found[PARTITION] = HALF_BYTES * -(-trained // self.cards)
        return found

    def _reduced(self, done: int, *, is_last: bool) -> dict[str, int]:
        """What reducing takes: when the backward pass is over, and with each full bucket on its way to the host.

        Stage 2's part is then there as it was reduced and as a list of tensors of their own
        (independent_gradient_partition_epilogue, get_all_grad_tensors and get_flat_partition). Of what goes to the host
        the norm of each gradient is worked out in float64 (set_norm_for_param_grad_in_gpu).
        """
        options = self.options
        if options.stage not in (1, 2):
            return {}
        trained = sum(_trained(unit) * times for unit, times in self._units())
        share = -(-trained // self.cards)
        if options.offload_optimizer == "none":
            return {PARTITION: 2 * HALF_BYTES * share} if is_last and options.stage == 2 else {}
        bucket = bucket_bytes(options, self.hidden) // HALF_BYTES
        if not is_last and _trained(self.units.tail) + _trained(self.units.layer) * done <= bucket:
            return {}
        largest = max((part.elements for unit, _ in self._units() for part in unit.parts if part.trained), default=0)
        return {NORMS: allocated(_DOUBLE_BYTES * min(largest, share))}

    def _units(self) -> tuple[tuple[Unit, int], ...]:
        units = self.units
        return (units.embedding, 1), (units.layer, units.layers), (units.tail, 1)

    def _parameters(self, direction: str, done: int, *, is_layer: bool) -> Held:
        """Stage 3 gathers a layer before its use and releases what is not used again soon enough."""
        if self.options.stage < 3:
            return {}
        layer, tail, embedding = map(self._gathered, (self.units.layer, self.units.tail, self.units.embedding))
        layers = self.units.layers
        # A layer is used again after all that follow it, forward and back; the embedding's backward gathers it, too.
        distance = self.options.stage3_max_reuse_distance
        reused = min(layers, max(0, distance - 2 * tail) // max(1, 2 * layer))
        # Layers before the one in use, of which those that are used again soon enough are there.
        index = done if direction == "forward" else layers - done - is_layer
        kept = min(reused, max(0, index - (layers - reused)))
        stays = embedding if 2 * (layers * layer + tail) <= distance else 0
        hidden = self.hidden
        ahead = self.options.stage3_prefetch_bucket_size
        ahead = (9 * hidden**2) // 10 if ahead is None else ahead
        following = index + 1 if direction == "forward" else index - 1
        comes = 0 <= following < layers and not (direction == "backward" and following >= layers - reused)
        outside = 0 if is_layer else tail if stays else max(tail, embedding)
        elements = kept * layer + layer * is_layer + stays + outside + min(ahead, layer) * comes
        return {PARAMETERS: HALF_BYTES * elements}

    def _gathered(self, unit: Unit) -> int:
        """Elements of a unit that are cut: small parameters stay whole."""
        least = self.options.stage3_param_persistence_threshold
        least = 10 * self.hidden if least is None else least
        return sum(part.elements * part.count for part in unit.parts if part.elements > least)


def _trained(unit: Unit) -> int:
    return sum(part.elements * part.count for part in unit.parts if part.trained)


def _without_nothing(held: Held) -> Held:
    return {name: size for name, size in held.items() if size}
