"""Fully sharded data parallelism: what a card holds beside its shards while a step runs.

torch 2.14 torch/distributed/fsdp/_fully_shard, as accelerate sets it up. Forward, a unit's parameters are gathered into
one buffer and copied out of it; the buffer stays until the next unit's copy
(_fsdp_param_group.py wait_for_unshard), and for the last one until the model returns
(_fsdp_state.py _post_forward). Backward, the buffer goes at once, and the next unit's is filled while this one is
worked on (_backward_prefetch). Where a unit's backward pass ends, its parameters go, its gradients are copied into one
buffer, which stays until the next unit's (post_backward), and its reduced shard stays for the optimizer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from planner.ledger import Cause, Line
from planner.parallel.units import Sized, SizedUnits
from planner.step.engine.held_bytes import Held, HeldThroughStep, Stretch

NOTHING = Sized()
# Units, and how many of each: all layers are alike, and a model may have more than a hundred.
Counted = tuple[Sized, int]
PARAMETERS = "unsharded parameters in use"
GATHERING = "all-gather buffer"
EARLIER = "all-gather buffer of the unit before"
REDUCING = "reduce-scatter buffer"
SHARDS = "gradients: this card's shards so far"
REDUCED = "reduced gradients on their way to the host"
VIEWS = "gradients of one unit's parameters beside their flat one"
COPIED = "frozen shards that came from the host"

_CAUSES: dict[str, Cause] = {
    PARAMETERS: "weights", GATHERING: "workspace", EARLIER: "workspace", REDUCING: "workspace",
    COPIED: "weights",
}  # fmt: skip
_FORMULAS = {
    PARAMETERS: "Σ e × cards × ⌈rows / cards⌉ × columns over the units in use, each tensor rounded up to 512 bytes",
    GATHERING: "e × cards × the shards of one unit",
    EARLIER: "e × cards × the shards of one unit",
    REDUCING: "e × cards × the trained shards of one unit",
    SHARDS: "e × trained shards of the units whose backward pass is over",
    REDUCED: "e × trained shards of one unit",
    VIEWS: "e × the trained parameters of one unit",
    COPIED: "e × frozen shards of the units that the forward pass has gathered",
}
_SOURCES = {
    PARAMETERS: "_fsdp_param.py init_all_gather_outputs",
    GATHERING: "_fsdp_collectives.py foreach_all_gather",
    EARLIER: "_fsdp_param_group.py wait_for_unshard",
    REDUCING: "_fsdp_collectives.py foreach_reduce; _fsdp_param_group.py post_backward",
    SHARDS: "_fsdp_collectives.py foreach_reduce",
    REDUCED: "_fsdp_collectives.py foreach_reduce, offload_to_cpu",
    VIEWS: "../_flat_param.py _use_unsharded_views",
    COPIED: "../_flat_param.py flat_param_to",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FsdpStep:
    """What FSDP holds in each segment of a step.

    `accumulates`: gradients of earlier micro-batches are whole until the last one's are reduced
    (accelerate's no_sync, _fsdp_param.py to_accumulated_grad_if_needed). `keeps_buffers`: FSDP2 copies out of a buffer
    of its own; FSDP1 gathers in place, and `prefetches` the next unit of the backward pass only where it is told to
    (torch/distributed/fsdp/_runtime_utils.py _pre_backward_hook, BackwardPrefetch.BACKWARD_PRE).
    """

    units: SizedUnits
    reshard_after_forward: bool
    on_host: bool
    accumulates: bool
    keeps_buffers: bool = True
    prefetches: bool = False

    def held_through(self, segments: Sequence[tuple[str, bool]]) -> HeldThroughStep:
        """A stretch for each segment, told by its phase and whether it is a layer.

        What layers leave behind in the loss is no layer's pass.
        """
        segments = [(phase, is_layer and phase != "loss") for phase, is_layer in segments]
        first_back = next(
            (i for i, (phase, is_layer) in enumerate(segments) if phase == "backward" and is_layer), len(segments)
        )
        return HeldThroughStep(tuple(self._stretches(segments, first_back)))

    def line(self, name: str, size_bytes: int, alive_in: tuple[str, ...]) -> Line:
        """The ledger's line of one of the names above."""
        return Line(
            name=name, bytes=size_bytes, cause=_CAUSES.get(name, "gradients"), alive_in=alive_in,
            formula=_FORMULAS[name], working=f"{size_bytes:,}", evidence="modelled",
            source=f"torch/distributed/fsdp/_fully_shard/{_SOURCES[name]}",
        )  # fmt: skip

    @property
    def side_stream_bytes(self) -> int:
        """What torch reserves beside the default stream's memory: blocks freed on one stream serve no other.

        Two gather buffers of the largest unit on the copy-in stream, one reduced shard on the reduce-scatter stream.
        """
        units = (self.units.embedding, self.units.layer, self.units.tail)
        gathered = max(unit.gather_buffer_bytes for unit in units)
        return 2 * gathered * self.keeps_buffers + max(unit.reduced_bytes for unit in units)

    def _stretches(self, segments: Sequence[tuple[str, bool]], first_back: int) -> Iterator[Stretch]:
        forward = backward = 0
        follows_layer = False
        for position, (phase, is_layer) in enumerate(segments):
            if phase == "backward":
                root = self._copied([(self.units.tail, 1)])
                found = self._backward(position, first_back, backward, is_layer=is_layer)
                yield replace(found, during={**found.during, **root}, at_end={**found.at_end, **root})
                backward += is_layer
            else:
                found = self._forward(phase, forward, is_layer=is_layer)
                yield found if is_layer or follows_layer else replace(found, at_start={})
                forward += is_layer
            follows_layer = is_layer

    def _forward(self, phase: str, done: int, *, is_layer: bool) -> Stretch:
        """`done` layers have run."""
        units, kept = self.units, 0 if self.reshard_after_forward else done
        used = [(units.layer, kept + is_layer)]
        if units.tied:
            used.append((units.tail, 1))
        elif not self.reshard_after_forward and (done or is_layer):
            used.append((units.embedding, 1))
        at_the_end = not is_layer and (done == units.layers or phase == "loss")
        unit = units.tail if at_the_end or units.tied else units.embedding
        if is_layer or (at_the_end and units.tied):  # a tail that was gathered first left its buffer to the layers
            unit = units.layer
        if not (is_layer or units.tied):
            used.append((unit, 1))
        held = {**self._held(used, unit), **self._copied(used)}
        # The buffer before is freed when wait_for_unshard returns: its `prev_all_gather_state` still refers to it.
        before = units.layer if done else units.embedding if not units.tied else NOTHING
        at_start = {**held, EARLIER: before.gather_buffer_bytes * self.keeps_buffers}
        return Stretch(held, held, at_start={name: size for name, size in at_start.items() if size})

    def _backward(self, position: int, first_back: int, done: int, *, is_layer: bool) -> Stretch:
        """`done` layers have been gone back through."""
        units = self.units
        left = units.layers - done
        resident = [(units.tail, 1)] if units.tied else []
        if not (units.tied or self.reshard_after_forward):
            resident.append((units.embedding, 1))
        if not is_layer and position < first_back:
            return self._tail(resident)
        before = units.tail if not done and not units.tied else units.layer if done else NOTHING
        gone = (first_back if units.tied else 0, position)
        reduced = [(units.layer, done)] if units.tied else [(units.layer, done), (units.tail, 1)]
        if not is_layer:
            unit = units.tail if units.tied else units.embedding
            during = self._held(resident or [(unit, 1)], NOTHING, units.layer, reduced)
            at_end = self._held([], NOTHING, unit, [*reduced, (unit, 1)])
            if not self.keeps_buffers:
                at_end = {**self._held(resident, NOTHING, unit, reduced), **self._not_flat_yet(unit)}
            stays = self.accumulates or not units.layer.gathered_bytes
            return Stretch(during, at_end, (0, 0) if stays else gone)
        following = units.layer if left > 1 else NOTHING if units.tied else units.embedding
        if not self.reshard_after_forward:
            following = NOTHING
            resident = [*resident, (units.layer, left - 1)]
        ahead = [*resident, *self._in_place(following)]
        if self.keeps_buffers:
            during = self._held([*ahead, (units.layer, 1)], following, before, reduced)
            at_end = self._held(ahead, following, units.layer, [*reduced, (units.layer, 1)])
        else:
            # FSDP1 reduces one flat gradient beside those it was copied from, while the unit is still whole
            # (torch/distributed/fsdp/_runtime_utils.py _post_backward_hook), and keeps no buffer afterwards.
            during = self._held([*ahead, (units.layer, 1)], NOTHING, NOTHING, reduced)
            whole = self._held([*ahead, (units.layer, 1)], NOTHING, units.layer, reduced)
            at_end = {**whole, **self._not_flat_yet(units.layer)}
        stays = self.accumulates or not units.layer.gathered_bytes
        return Stretch(during, at_end, (0, 0) if stays else gone)

    def _tail(self, resident: list[Counted]) -> Stretch:
        """Head and final norm: their parameters stayed.

        The last layer's are gathered once the gradient of the logits is there (its hook is on them), when the loss has
        let go of its own: that counts at the end alone.
        """
        units = self.units
        following = units.layer if self.reshard_after_forward else NOTHING
        kept = [] if self.reshard_after_forward else [(units.layer, units.layers)]
        kept += [] if units.tied else resident
        during = self._held([*kept, (units.tail, 1), *self._in_place(following)], NOTHING)
        if units.tied:
            return Stretch(during, self._held([*kept, (units.tail, 1)], following))
        return Stretch(during, self._held(kept, following, units.tail, [(units.tail, 1)]))

    def _not_flat_yet(self, unit: Sized) -> Held:
        """A unit's own gradients where those of earlier micro-batches are there, too, as one flat tensor.

        Elsewhere they are the step's. A plain parameter's gradient is added where it arrives; FSDP1's parameters are
        views, whose gradients all wait for their flat one, and that is added
        (torch/distributed/fsdp/_flat_param.py _use_unsharded_views, prepare_gradient_for_backward).
        """
        return {VIEWS: unit.reduce_buffer_bytes} if self.accumulates else {}

    def _in_place(self, following: Sized) -> list[Counted]:
        """What FSDP1 has gathered of the unit that comes next."""
        return [(following, 1)] if self.prefetches and not self.keeps_buffers else []

    def _copied(self, gathered: Sequence[Counted]) -> Held:
        """FSDP1's copies of frozen shards, which the parameters of a unit refer to while its views are gathered.

        Those of a unit that the backward pass gathers go: there the parameters are the views themselves
        (torch/distributed/fsdp/_flat_param.py _use_unsharded_flat_param, as_params).
        """
        size_bytes = sum(unit.frozen_shard_bytes * count for unit, count in gathered)
        return {COPIED: size_bytes} if size_bytes and self.on_host and not self.keeps_buffers else {}

    def _held(
        self,
        used: Sequence[Counted],
        gathering: Sized,
        reducing: Sized | None = None,
        reduced: Sequence[Counted] = (),
    ) -> Held:
        gather = gathering.gather_buffer_bytes if self.keeps_buffers else 0
        found = {
            PARAMETERS: sum(unit.gathered_bytes * count for unit, count in used),
            GATHERING: gather,
            REDUCING: reducing.reduce_buffer_bytes if reducing else 0,
        }
        if self.on_host and self.keeps_buffers:
            found[REDUCED] = next((unit.reduced_bytes for unit, count in reversed(reduced) if count), 0)
        elif not self.accumulates:
            # FSDP1's stay on the card until the backward pass is over, with their copies on the host
            # (torch/distributed/fsdp/_flat_param.py prepare_gradient_for_optim deletes `_saved_grad_shard`).
            found[SHARDS] = sum(unit.reduced_bytes * count for unit, count in reduced)
        return {name: size for name, size in found.items() if size}
