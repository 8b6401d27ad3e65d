"""What FSDP1 asks torch's allocator for, and on which stream: a step's flat parameters and gradients, move by move.

torch 2.14, torch/distributed/fsdp/_runtime_utils.py and _flat_param.py. A unit is gathered on the unshard stream, from
a shard in the mixed precision's dtype that is made on the pre-unshard stream (_use_low_precision_shard). Its flat
gradient is on the unshard stream, too: autograd runs the backward of `torch.split`, which made the views, where that
ran. The reduced shard and its float32 copy are made on the post-backward stream (_reduce_grad,
_cast_grad_to_param_dtype), between replicas the copy on the all-reduce stream. What another stream used comes back when
the host has waited for that stream:

* before a unit is gathered, for the second last one that was let go of (`limit_all_gathers`, _FreeEventQueue), which
  comes behind all that was gathered and computed until then,
* when transformers looks whether sequences are packed, before the first layer (masking_utils.py
  find_packed_sequence_indices, whose `.all()` is read by the host),
* for reductions at the end of the backward pass alone (_post_backward_final_callback).

A unit's own gradients, its flat one aside, are the step's (planner/step), in memory of the computation.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.allocator.stream_pools import Lent, StreamPools
from planner.parallel.flat_units import FlatUnit, FlatUnits

Stream = Literal["computation", "pre-unshard", "unshard", "post-backward", "all-reduce"]
Streams = StreamPools[Stream]
Tensor = Lent[Stream]
# What the event of a unit that was let go of comes behind.
_GATHERING: tuple[Stream, ...] = ("computation", "pre-unshard", "unshard")
_ALL: tuple[Stream, ...] = (*_GATHERING, "post-backward", "all-reduce")
# torch/distributed/fsdp/_limiter_utils.py _FreeEventQueue: _max_num_inflight_all_gathers.
IN_FLIGHT = 2
# In so many layers the forward pass plays its adapters' units: what those of one let go of serves those of the next.
_ADAPTERS_PLAYED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fsdp1Options:
    """`frees`: whether layers go after their forward pass. `replicated`: shards are reduced between groups of cards."""

    frees: bool
    on_host: bool
    replicated: bool
    prefetch: Literal["no_prefetch", "backward_pre", "backward_post"]


# A unit of a layer: which layer, and which of its units; the layer's own comes last.
Place = tuple[int, int]


class Fsdp1Play:
    """One card's flat parameters in the pools. Called around each segment of a step, which plays its own moves."""

    def __init__(self, streams: Streams, units: FlatUnits, options: Fsdp1Options) -> None:
        self._streams, self._units, self._options = streams, units, options
        self._of_layer = (*units.adapters, units.layer)
        self._whole: dict[Place | None, Tensor] = {}
        self._copied: dict[Place | None, Tensor] = {}
        self._made: dict[Place | None, Tensor] = {}
        self._reduced: list[Tensor] = []
        self._let_go: deque[int] = deque()
        self._done = 0
        self._has_begun = False

    @property
    def has_layers(self) -> bool:
        """Whether layers are units of their own."""
        return bool(self._units.layers)

    def cut(self, loaded: Mapping[Place | None, Sequence[Tensor]]) -> None:
        """Make each unit's parameters, flatten and cut them, the root last; then all shards in the kept dtype.

        `loaded`: parameters that are on the card by now, of a model that was quantized there.

        _flat_param.py flatten_tensors_into_flat_param, shard; accelerate keeps what is trained in float32, beside which
        the first shard stays until the unit was used.
        """
        for place, unit in (*self._places_in_order(), (None, self._units.root)):
            parts = loaded.get(place) or [self._compute(size) for size in unit.each]
            flat = self._compute(unit.shards * unit.shard_elements * unit.made_bytes)
            shard = self._compute(unit.shard_elements * unit.made_bytes)
            for tensor in (*parts, flat, *[shard] * self._options.on_host):
                self._streams.free(tensor)
            if not self._options.on_host:
                self._made[place] = shard
        if self._options.on_host:
            return
        for place, unit in ((None, self._units.root), *self._places_in_order()):
            if loaded or unit.kept_bytes == unit.made_bytes:
                del self._made[place]
            else:
                self._compute(unit.shard_elements * unit.kept_bytes)

    def begin_step(self) -> None:
        """The last step's gradients go; the root is gathered, and stays."""
        for tensor in self._reduced:
            self._streams.free(tensor)
        self._reduced.clear()
        self._done = 0
        if not self._has_begun:
            self._make_once()
        self._gather(None)

    def look_at_packing(self) -> None:
        """The host has waited for everything."""
        self._streams.reach(_ALL, self._streams.mark())

    def before_layer(self, phase: str) -> None:
        """A layer's unit is gathered, if that was not done ahead."""
        backward = phase == "backward"
        layer = self._units.layers - 1 - self._done if backward else self._done
        own = len(self._of_layer) - 1
        self._gather((layer, own))
        if backward:
            self._gather_next((layer, own), "backward_pre")

    def after_layer(self, phase: str, gradients: Sequence[Tensor]) -> None:
        """A layer is let go of; in the backward pass its `gradients` are made flat and reduced."""
        own = len(self._of_layer) - 1
        if phase == "backward":
            layer = self._units.layers - 1 - self._done
            for number in reversed(range(own)):
                self._gather((layer, number))
                self._gather_next((layer, number), "backward_pre")
                self._reduce((layer, number), ())
            self._reduce((layer, own), gradients)
        else:
            layer = self._done
            for number in range(own):
                if self._options.frees and layer >= _ADAPTERS_PLAYED:
                    self._wait()
                    self._let_go.append(self._streams.mark())
                    continue
                self._gather((layer, number))
                self._let_go_of((layer, number), self._options.frees)
            self._let_go_of((layer, own), self._options.frees)
        self._done += 1

    def begin_backward(self) -> None:
        """The last layer is gathered ahead when the gradient of the logits is there."""
        self._done = 0
        if self._options.prefetch == "backward_pre" and self.has_layers:
            self._gather((self._units.layers - 1, len(self._of_layer) - 1))

    def end_backward(self, gradients: Sequence[Tensor]) -> None:
        """The root's gradients are reduced; the host waits for all."""
        self._reduce(None, gradients)
        self._streams.reach(_ALL, self._streams.mark())
        if self._options.on_host:
            for tensor in self._reduced:
                self._streams.free(tensor)
            self._reduced.clear()

    def _make_once(self) -> None:
        """_flat_param.py init_flat_param_attributes: all that a unit will need is made and let go of."""
        self._has_begun = True
        for _, unit in ((None, self._units.root), *self._places_in_order()):
            sizes = [unit.shards * unit.gathered_bytes]
            if unit.narrows:
                sizes = [unit.gathered_bytes, *sizes, unit.shards * unit.kept_bytes]
            for each in sizes:
                self._streams.free(self._compute(unit.shard_elements * each))

    def _places_in_order(self) -> list[tuple[Place | None, FlatUnit]]:
        return [
            ((layer, number), unit) for layer in range(self._units.layers) for number, unit in enumerate(self._of_layer)
        ]

    def _unit(self, place: Place | None) -> FlatUnit:
        return self._units.root if place is None else self._of_layer[place[1]]

    def _compute(self, size_bytes: int) -> Tensor:
        return self._streams.allocate("computation", size_bytes)

    def _gather(self, place: Place | None) -> None:
        """_runtime_utils.py _unshard."""
        if place in self._whole:
            return
        unit, streams = self._unit(place), self._streams
        narrow: Tensor | None = None
        if unit.narrows:
            narrow = streams.allocate("pre-unshard", unit.shard_elements * unit.gathered_bytes)
            if self._options.on_host:
                streams.free(streams.allocate("pre-unshard", unit.shard_elements * unit.kept_bytes))
        elif self._options.on_host:
            self._copied[place] = streams.allocate("pre-unshard", unit.shard_elements * unit.kept_bytes)
        self._wait()
        self._whole[place] = streams.allocate("unshard", unit.shards * unit.shard_elements * unit.gathered_bytes)
        if narrow is not None:
            streams.free_late(narrow, "unshard")

    def _wait(self) -> None:
        """For the second last unit that was let go of."""
        if len(self._let_go) >= IN_FLIGHT:
            self._streams.reach(_GATHERING, self._let_go.popleft())

    def _gather_next(self, place: Place, when: str) -> None:
        """_runtime_utils.py _prefetch_handle: the unit whose forward pass came before."""
        if self._options.prefetch != when:
            return
        layer, number = place
        if number > 0:
            self._gather((layer, number - 1))
        elif layer > 0:
            self._gather((layer - 1, len(self._of_layer) - 1))

    def _let_go_of(self, place: Place | None, frees: bool, *, used_by: Stream = "computation") -> None:
        """_runtime_utils.py _reshard: `used_by` is the stream under way."""
        if (made := self._made.pop(place, None)) is not None:
            self._streams.free(made)
        if not frees:
            return
        if (copied := self._copied.pop(place, None)) is not None:
            self._streams.free_late(copied, "unshard")
        whole = self._whole.pop(place)
        if used_by == whole.stream:
            self._streams.free(whole)
        else:
            self._streams.free_late(whole, used_by)
        self._let_go.append(self._streams.mark())

    def _reduce(self, place: Place | None, gradients: Iterable[Tensor]) -> None:
        """_runtime_utils.py _post_backward_hook."""
        unit, streams = self._unit(place), self._streams
        flat: Tensor | None = None
        # A weight that is used twice has two gradients, which are added where its view was made.
        both = None if place is not None else streams.allocate("unshard", self._units.tied_bytes)
        if unit.trained:
            flat = streams.allocate("unshard", unit.shards * unit.shard_elements * unit.gathered_bytes)
        for gradient in gradients:
            streams.free_late(gradient, "unshard")
        if both is not None:
            streams.free(both)
        self._let_go_of(place, frees=True, used_by="unshard" if unit.trained else "computation")
        if place is not None:
            self._gather_next(place, "backward_post")
        if flat is None:
            return
        shard = streams.allocate("post-backward", unit.shard_elements * unit.gathered_bytes)
        if unit.narrows:
            made_on: Stream = "all-reduce" if self._options.replicated else "post-backward"
            wide = streams.allocate(made_on, unit.shard_elements * unit.kept_bytes)
            if self._options.replicated:
                streams.free_late(shard, "all-reduce")
            else:
                streams.free(shard)
            shard = wide
        self._reduced.append(shard)
        streams.free_late(flat, "post-backward")
