"""DeepSpeed's ZeRO: what a card holds, read off its source and held to probes (tests/planner/parallel/probed.py).

deepspeed/runtime/zero, stages 1 and 2 in stage_1_and_2.py DeepSpeedZeroOptimizer, stage 3 in stage3.py and
partitioned_param_coordinator.py. The engine turns the model to 16 bit and keeps float32 copies of what is trained, cut
over the cards, which the optimizer updates. n = trained elements, c = cards.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from planner.ledger import Cause, Line
from planner.parallel.zero_coordinator import Limits, Whole, whole_parameters
from planner.parallel.zero_gradients import HALF_BYTES, Parts, reduced_at_the_end, reduced_on_the_way
from planner.parallel.zero_parameters import ModelParameters
from planner.request.parallel import DeepSpeed, ZeroSizes
from planner.step.engine.held_bytes import Held, HeldThroughStep, Stretch
from planner.units import allocated

BUCKETS = "ZeRO reduce buckets"
PARTITION = "gradients on their way to this card's part"
EARLIER = "gradients of earlier micro-batches: this card's part"
PARAMETERS = "gathered parameters"
_CAUSES: dict[str, Cause] = {
    BUCKETS: "workspace", PARTITION: "gradients", EARLIER: "gradients", PARAMETERS: "weights",
}  # fmt: skip
_FORMULAS = {
    BUCKETS: "2 × reduce_bucket_size, twice with overlap_comm",
    PARTITION: "2 × parameters that the part touches, what fits no bucket, copies while a bucket is reduced",
    EARLIER: "2 × parameters that the part touches",
    PARAMETERS: "2 × (the layer in use, what is prefetched, what is used again within max_reuse_distance)",
}
_SOURCES = {
    BUCKETS: "stage_1_and_2.py setup_buckets",
    PARTITION: "stage_1_and_2.py reduce_ipg_grads, copy_grads_in_partition, average_tensor",
    EARLIER: "stage_1_and_2.py all_grad_tensors",
    PARAMETERS: "partitioned_param_coordinator.py fetch_sub_module, __params_to_release",
}


def bucket_bytes(sizes: ZeroSizes) -> int:
    """One tensor that gradients are copied into to be reduced together."""
    return allocated(HALF_BYTES * sizes.reduce_bucket_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroStep:
    """What ZeRO holds in each segment of a step.

    `accumulates`: earlier micro-batches have left their gradients. `checkpoints`: layers are computed again.
    """

    parameters: ModelParameters
    cards: int
    options: DeepSpeed
    sizes: ZeroSizes
    accumulates: bool
    checkpoints: bool

    def held_through(self, segments: Sequence[tuple[str, bool]]) -> HeldThroughStep:
        """A stretch for each segment, told by its phase and whether it is a layer."""
        # What layers leave behind in the loss is no layer's pass.
        segments = [(phase, is_layer and phase != "loss") for phase, is_layer in segments]
        gradients = self._gradients(segments)
        stretches = []
        for position, whole in enumerate(self._whole_parameters(segments)):
            during, at_end = gradients.get(position, (self._earlier, self._earlier))
            stretches.append(
                Stretch(
                    _there({**during, PARAMETERS: whole.during_bytes}),
                    _there({**at_end, PARAMETERS: whole.at_end_bytes}),
                    before_gradients=_there({**during, PARAMETERS: whole.before_gradients_bytes}),
                )
            )
        return HeldThroughStep(tuple(stretches), takes_gradients=self._reduces_on_the_way)

    def line(self, name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        """The ledger's line of one of the names above."""
        return Line(
            name=name, bytes=size_bytes, cause=_CAUSES[name], alive_in=alive_in, formula=_FORMULAS[name],
            working=f"{size_bytes:,}", evidence="modelled", source=f"deepspeed/runtime/zero/{_SOURCES[name]}",
        )  # fmt: skip

    @property
    def _reduces_on_the_way(self) -> bool:
        """Whether gradients go into a bucket as they come; else when all are there (process_gradients)."""
        return self.options.stage >= 2 or (self.options.stage == 1 and bool(self.options.overlap_comm))

    @property
    def _on_host(self) -> bool:
        return self.options.offload_optimizer != "none"

    @property
    def _buckets_bytes(self) -> int:
        """Of stages 1 and 2; stage 0 reduces gradients where they are, stage 3 makes its bucket and its part once
        (planner/parallel/zero_static.py).
        """
        if self.options.stage in (0, 3):
            return 0
        return bucket_bytes(self.sizes) * (2 if self.options.overlap_comm else 1)

    @property
    def _parts(self) -> Parts:
        return Parts.of(self.parameters.trained_in_order(), self.cards)

    @property
    def _earlier(self) -> dict[str, int]:
        """What earlier micro-batches left: stage 1 its bucket, stage 2 the reduced part."""
        if not self.accumulates or self.options.stage not in (1, 2):
            return {}
        if not self._reduces_on_the_way:
            return {BUCKETS: self._buckets_bytes}
        return {} if self._on_host else {EARLIER: max(map(self._parts.kept_bytes, self._parts.ranks()))}

    def _gradients(self, segments: Sequence[tuple[str, bool]]) -> dict[int, tuple[dict[str, int], dict[str, int]]]:
        """Of each segment of the backward pass what is held while it is played, and at its end.

        What comes before the first layer's pass is the loss, the head, and what else comes after the layers. The bucket
        comes with the first gradient, when those of the logits are gone (process_gradients).
        """
        backward = [index for index, (phase, _) in enumerate(segments) if phase == "backward"]
        options, earlier = self.options, self._earlier
        buckets = {BUCKETS: self._buckets_bytes} if options.stage < 3 else {}
        layers = [position for position in backward if segments[position][1]]
        first, last = layers[0], layers[-1]
        size = self.sizes.reduce_bucket_size
        if not self._reduces_on_the_way:
            found = dict.fromkeys(backward, (earlier | buckets, earlier | buckets))
            found |= dict.fromkeys(backward[: backward.index(first)], (earlier, earlier))
            if self.parameters.trained[2]:
                found[first - 1] = (earlier, earlier | buckets)
            if options.stage == 1:
                most_bytes = reduced_at_the_end(self._parts, size, on_host=self._on_host)
                found[backward[-1]] = (earlier | buckets, {**earlier, **buckets, PARTITION: most_bytes})
            return found
        moved = reduced_on_the_way(
            self._parts, self.parameters.trained_counts(), size,
            stage=options.stage, on_host=self._on_host,
        )  # fmt: skip
        found = {}
        for position in backward:
            unit = 0 if position < first else len(moved) - 1 if position > last else layers.index(position) + 1
            during_bytes, end_bytes = moved[unit]
            comes = bool(unit or self.parameters.trained[2])
            beside = {**earlier, **(buckets if comes else {})}
            # The gradients of the head come when those of the logits go.
            held = {**beside, PARTITION: during_bytes} if unit else earlier
            found[position] = (held, {**beside, PARTITION: max(end_bytes, 0 if unit else during_bytes)})
        return found

    def _whole_parameters(self, segments: Sequence[tuple[str, bool]]) -> list[Whole]:
        """Of each segment, of stage 3: what comes before the layers, each layer, and what comes after them."""
        if self.options.stage < 3:
            return [Whole(0, 0, 0)] * len(segments)
        forward, backward = whole_parameters(self.parameters, self._limits, checkpoints=self.checkpoints)
        found, done = [], {"forward": 0, "backward": 0}
        for position, (phase, is_layer) in enumerate(segments):
            direction = "backward" if phase == "backward" else "forward"
            played = backward if direction == "backward" else forward
            # Micro-batches that are accumulated run forward one after the other: each begins before the layers again.
            begins = (phase, True) in segments[position + 1 : position + 2]
            if is_layer and done[direction] == self.parameters.layers:
                done[direction] = 0
            done[direction] += is_layer
            after_layers = done[direction] == self.parameters.layers and not begins
            outside = -1 if phase == "loss" else self.parameters.layers + 1 if after_layers else 0
            found.append(played[done[direction] if is_layer else outside])
        return found

    @property
    def _limits(self) -> Limits:
        options = self.options
        return Limits(
            cards=self.cards,
            on_host=options.offload_param != "none",
            prefetch=self.sizes.stage3_prefetch_bucket_size,
            live=options.stage3_max_live_parameters,
            reuse=options.stage3_max_reuse_distance,
            persistent=self.sizes.stage3_param_persistence_threshold,
        )


def _there(held: Held) -> Held:
    return {name: size for name, size in held.items() if size}
