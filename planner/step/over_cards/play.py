"""What comes and goes on each card while a step runs over several: a layer's tensors on its card, and copies between.

accelerate 1.15 hooks.py AlignDevicesHook.pre_forward: whatever a module is called with is copied to its card, and the
copy is there until the module returns, or longer where the graph or a checkpoint saves it. The hook of the whole model
has its outputs copied to the card of its inputs (io_same_device). transformers 5.23 modeling_layers.py
GradientCheckpointingLayer checkpoints within the hook, so that a checkpoint holds the copies.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from planner.step.batch_tensors import INPUTS
from planner.step.embedding import MASK
from planner.step.engine.ops import GRADIENTS
from planner.step.engine.program import Program
from planner.step.legend import GRADIENT
from planner.step.losses.full_logits import FLOAT_LOGITS, LOGITS
from planner.step.over_cards.lifetimes import Lifetimes, Position, Tensor, lifetimes_of
from planner.step.over_cards.moves import CardMoves, Entry

SHARED_COPY = "copies of positions, rotary tables and masks"
OUTPUT_COPY = "logits handed to the first card"
NORMS = "norms"
FIRST = 0
# When a copy comes or goes: before a position's own moves, after them, or after all that comes then.
_START, _END, _LAST = range(3)
_ALL_LOGITS = ("T", "V")


@dataclass(frozen=True, slots=True)
class Places:
    """The card of each layer, of the embedding, the final norm, the rotary tables and the output head, of `cards`.

    `windowed`: whether a layer attends within a window, and so has the first of two sets of tables. `converts`: whether
    accelerate turns the logits into float32 when the model has returned (utils/operations.py convert_to_fp32).
    """

    layers: tuple[int, ...]
    embedding: int
    norm: int
    rotary: int
    head: int
    windowed: tuple[bool, ...]
    converts: bool
    cards: int


@lru_cache(maxsize=32)
def moves_on_cards(program: Program, order: tuple[int, ...], places: Places) -> tuple[CardMoves, ...]:
    """Each card's moves; they depend on no number."""
    return _Play(program, lifetimes_of(program, order), places).moves()


class _Play:
    """One walk over a step's positions, which puts every tensor and every copy on its card."""

    def __init__(self, program: Program, lives: Lifetimes, places: Places) -> None:
        self._program, self._positions, self._tensors, self._places = program, lives.positions, lives.tensors, places
        self._entries: list[Entry] = []
        self._numbered: dict[Entry, int] = {}
        self._cards = [CardMoves(self._entries) for _ in range(places.cards)]
        tags = [tag for tag, _ in program.keys]
        self._own = [self._entry(tensor, tags[tensor.key]) for tensor in self._tensors]
        layers = len(places.layers)
        layered = [
            at
            for at, each in enumerate(self._positions)
            if each.segment.phase == "forward" and each.layer is not None
        ]
        # Gradients of earlier micro-batches are named in positions of their own, before the step's.
        self._first, self._last = layered[-layers], layered[-1]
        self._last_named = layered[-layers - 1] if len(layered) > layers else -1
        self._backward = {
            each.layer: at
            for at, each in enumerate(self._positions)
            if each.segment.phase == "backward" and each.layer is not None
        }
        self._home = [FIRST] * len(self._tensors)
        # Tensors that go on another card than the one they were made on.
        self._goes_on: dict[int, int] = {}
        self._logits = -1
        self._norm_begins = (-1, -1)
        # The final norm's output is the last that it makes; what comes before is what it saves itself.
        tail = self._last + 1
        outputs = [number for number, tensor in enumerate(self._tensors) if tensor.born == tail != tensor.gone]
        self._last_hidden = max(outputs, default=-1)
        self._copies: dict[tuple[int, int], list[tuple[int, int, int]]] = {}

    def moves(self) -> tuple[CardMoves, ...]:
        """The walk itself."""
        for at, position in enumerate(self._positions):
            self._place(at, position)
        output = self._hand_out_logits()
        for number, tensor in enumerate(self._tensors):
            self._hand_on(number, tensor)
        self._copy_shared()
        for at, position in enumerate(self._positions):
            self._copied(at, _START)
            for index, number in enumerate(position.moves):
                if (at, index) == self._norm_begins:
                    self._hand_back_to_norm(position, index)
                self._move(number, output)
            self._copied(at, _END)
            self._copied(at, _LAST)
            for card in self._cards:
                card.ends.append((position.segment.phase, len(card.moves)))
        return tuple(self._cards)

    def _card_at(self, at: int) -> int:
        """The card that computes there."""
        position, places = self._positions[at], self._places
        if position.layer is not None:
            return places.layers[position.layer]
        if position.segment.phase == "forward":
            if at > self._last:
                return places.norm
            return places.head if at < self._last_named else places.embedding
        before_layers = position.segment.phase == "loss" or at < min(self._backward.values())
        return places.head if before_layers else places.embedding

    def _place(self, at: int, position: Position) -> None:
        """The card of every tensor that is made; going back, the head's part ends where the final norm's goes."""
        card = self._card_at(at)
        goes_back = position.segment.phase == "backward" and at < min(self._backward.values())
        for index, number in enumerate(position.moves):
            if number < 0:
                continue
            tag, _ = self._program.keys[self._tensors[number].key]
            if goes_back and tag.startswith(NORMS) and card != self._places.norm:
                card, self._norm_begins = self._places.norm, (at, index)
            is_table = at == self._first - 1 and self._is_table(self._tensors[number])
            self._home[number] = self._places.rotary if is_table else card

    def _hand_back_to_norm(self, position: Position, index: int) -> None:
        """The gradient of the last hidden state, from the head's card to that of the norm before it."""
        made = {number for number in position.moves[:index] if number >= 0}
        gone = {~number for number in position.moves[:index] if number < 0}
        taken = {~number for number in position.moves[index:] if number < 0}
        for number in sorted((made - gone) & taken):
            self._goes_on[number] = self._places.norm
            self._cards[self._places.norm].add(self._own[number], 1)
            self._cards[self._home[number]].add(self._own[number], -1)

    def _is_table(self, tensor: Tensor) -> bool:
        tag, size = self._program.keys[tensor.key]
        return tag == INPUTS and any(name.startswith("rotated") for name in size.dims)

    def _hand_on(self, number: int, tensor: Tensor) -> None:
        """What the next module, on another card, is called with, and the gradient that it hands back."""
        at, gone = tensor.born, tensor.gone
        tag, _ = self._program.keys[tensor.key]
        if gone is None or gone == at or number in self._goes_on or tag in {INPUTS, MASK, GRADIENTS}:
            return
        phase = self._positions[at].segment.phase
        if phase == "backward" and tag.endswith(GRADIENT):
            # Layers add to the gradient that they are given, so that one tensor goes from layer to layer.
            for before in range(at, gone):
                self._send(number, self._card_at(before + 1), (before, _END), (before, _LAST))
        elif phase == "forward" and self._first - 1 <= at <= self._last:
            following = self._positions[at + 1].layer
            if gone == at + 1 or (following is not None and gone == self._backward[following]):
                self._send(number, self._card_at(at + 1), (at + 1, _START), (at + 1, _LAST))
        elif at == self._last + 1 and number == self._last_hidden:
            self._send(number, self._places.head, (at + 1, _START), (at + 1, _LAST))

    def _send(self, number: int, card: int, comes: tuple[int, int], leaves: tuple[int, int]) -> None:
        """A copy that takes the tensor's place: the original is there until it `leaves`."""
        now = self._goes_on.get(number, self._home[number])
        if card == now:
            return
        self._goes_on[number] = card
        self._note(card, number, 1, comes)
        self._note(now, number, -1, leaves)

    def _note(self, card: int, number: int, sign: int, when: tuple[int, int], tag: str = "") -> None:
        """Something, or a further copy of it under `tag`, comes or goes on another card."""
        entry = self._entry(self._tensors[number], tag) if tag else self._own[number]
        self._copies.setdefault(when, []).append((card, entry, sign))

    def _entry(self, tensor: Tensor, tag: str) -> int:
        entry = Entry(tensor.kind, tensor.key, tag)
        if entry not in self._numbered:
            self._numbered[entry] = len(self._entries)
            self._entries.append(entry)
        return self._numbered[entry]

    def _copy_shared(self) -> None:
        """Positions, rotary tables and masks, which every layer is called with."""
        shared: dict[str, list[int]] = {}
        for number, tensor in enumerate(self._tensors):
            tag, size = self._program.keys[tensor.key]
            made_here = tensor.born == self._first - 1 and tensor.gone != tensor.born and tag in {INPUTS, MASK}
            if made_here and size.dims and size.dims[0] != "batch":
                name = "tables" if self._is_table(tensor) else "masks" if tag == MASK else "positions"
                shared.setdefault(name, []).append(number)
        for layer, card in enumerate(self._places.layers):
            for number in self._called_with(shared, windowed=self._places.windowed[layer]):
                if self._home[number] != card:
                    gone = self._tensors[number].gone
                    saved = gone is None or self._positions[gone].segment.phase == "backward"
                    forward = self._last - len(self._places.layers) + 1 + layer
                    until = self._backward[layer] if saved else forward
                    self._note(card, number, 1, (forward, _START), SHARED_COPY)
                    self._note(card, number, -1, (until, _LAST), SHARED_COPY)

    @staticmethod
    def _called_with(shared: dict[str, list[int]], *, windowed: bool) -> Iterator[int]:
        tables, masks = shared.get("tables", []), shared.get("masks", [])
        yield from shared.get("positions", [])
        yield from tables if len(tables) <= 2 else tables[:2] if windowed else tables[2:]
        yield from masks if len(masks) < 2 else masks[-1:] if windowed else masks[:1]

    def _hand_out_logits(self) -> int | None:
        """The model's outputs go to the card of its inputs. Returns the logits that follow a copy there, if any do."""
        made = [
            number
            for number, tensor in enumerate(self._tensors)
            if self._positions[tensor.born].segment.phase == "loss" and self._is_of_logits(tensor)
        ]
        if self._places.head == FIRST or not made:
            return None
        in_16bit = [number for number in made if self._program.keys[self._tensors[number].key][0] == LOGITS]
        logits = in_16bit[-1] if in_16bit else made[0]
        if self._places.converts:
            self._home[made[-1]] = FIRST
            self._logits = logits
            return made[-1]
        end, gone = self._tensors[logits].born, self._tensors[logits].gone
        if gone is None or self._positions[gone].segment.phase == "backward":
            self._send(logits, FIRST, (end, _END), (end, _LAST))
        else:
            self._note(FIRST, logits, 1, (end, _END), OUTPUT_COPY)
            self._note(FIRST, logits, -1, (end, _LAST), OUTPUT_COPY)
        return None

    def _is_of_logits(self, tensor: Tensor) -> bool:
        tag, size = self._program.keys[tensor.key]
        return tag in {LOGITS, FLOAT_LOGITS} and size.dims == _ALL_LOGITS

    def _copied(self, at: int, part: int) -> None:
        for card, entry, sign in self._copies.get((at, part), ()):
            self._cards[card].add(entry, sign)

    def _move(self, number: int, output: int | None) -> None:
        if number < 0:
            number = ~number
            self._cards[self._goes_on.get(number, self._home[number])].add(self._own[number], -1)
            return
        card = self._cards[self._home[number]]
        if number != output:
            card.add(self._own[number], 1)
            return
        # The logits that came from the head's card are turned into float32 and let go of.
        in_16bit = self._entry(self._tensors[self._logits], OUTPUT_COPY)
        card.add(in_16bit, 1)
        card.add(self._own[number], 1)
        card.add(in_16bit, -1)
