"""How one trainer's keys become a request: a table of rules, what the trainer does by default, what we leave out."""

import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.imports.effects import EVALUATION, Effect
from app.imports.ignored_keys import IgnoredKeys
from planner.answer.not_planned import Least, NotPlanned
from planner.errors import FieldProblem
from planner.lazy_attribute import lazy_attribute
from planner.request.lora import Lora

# What a plan without words on LoRA assumes, for files that are to get some.
DEFAULT_LORA = Lora()

Document = dict[str, Any]
Convert = Callable[[Any], Any]


def same(value: Any) -> Any:
    """The value as it stands."""
    return value


def negated(value: Any) -> Any:
    """`disable_…` keys."""
    return not value if isinstance(value, bool) else value


@dataclass(frozen=True, slots=True)
class Rule:
    """One key of the file and its place in the request. `write` turns an advised value back into the file's.

    `refused`: why a value has no plan, if it has none; the key is then left out with these words.
    """

    key: str
    path: str
    read: Convert = same
    write: Convert = same
    refused: Callable[[Any], str] | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """A key that became part of the plan."""

    key: str
    value: Any
    field: str


@dataclass(frozen=True, slots=True)
class Assumed:
    """A value the file does not state: what the trainer does then, and why we say so."""

    field: str
    value: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key that is not part of the plan. `matters` says that it does move memory."""

    key: str
    reason: str
    matters: bool = False


@dataclass(slots=True)
class Reading:
    """What has been understood so far. Each trainer's `settle` completes it."""

    config: Mapping[str, Any]
    document: Document = field(default_factory=dict)
    recognised: list[Recognised] = field(default_factory=list)
    assumed: list[Assumed] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    contradictions: list[FieldProblem] = field(default_factory=list)
    not_planned: list[NotPlanned] = field(default_factory=list)

    def put(self, path: str, value: Any) -> None:
        """Set a dotted path of the request."""
        place = self.document
        *parents, last = path.split(".")
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value

    def get(self, path: str) -> Any:
        """Read a dotted path of the request; None where nothing is set."""
        found: Any = self.document
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def assume(self, path: str, value: Any, reason: str) -> None:
        """Set `path` unless the file did, and say so."""
        if self.get(path) is None:
            self.put(path, value)
            self.assumed.append(Assumed(path, value, reason))

    def note(self, path: str, value: Any, reason: str) -> None:
        """Set `path` whatever the file did, and say so."""
        self.put(path, value)
        self.assumed.append(Assumed(path, value, reason))

    def use(self, key: str, path: str, value: Any) -> None:
        """Set `path` from `key`, for keys that no simple rule covers."""
        self.put(path, value)
        self.recognised.append(Recognised(key, self.config.get(key), path))

    def leave_out(self, key: str, effect: Effect, *, least: Least | None = None) -> None:
        """Name a key that moves memory and is not part of the plan; once, however many rules meet it."""
        if any(item.key == key for item in self.not_planned):
            return
        value = self.config.get(key)
        if least is None and effect.least:
            least = effect.least(value)
        item = NotPlanned(key=key, value=value, why=effect.why, planned=effect.planned, saves=effect.saves, least=least)
        self.not_planned.append(item)
        self.ignored.append(Ignored(key, effect.why, matters=True))

    def planned_after_all(self, keys: Collection[str]) -> None:
        """Take back that `keys` move memory outside the plan: the run that they belong to is planned."""
        self.not_planned = [item for item in self.not_planned if item.key not in keys]
        self.ignored = [item for item in self.ignored if item.key not in keys]

    def contradict(self, key: str, message: str) -> None:
        """Report two keys that cannot both be meant, or a value that none is; once."""
        problem = FieldProblem(key, message)
        if problem not in self.contradictions:
            self.contradictions.append(problem)

    def use_reentrant(self, key: str) -> None:
        """Read `use_reentrant` out of the checkpointing keywords under `key`; name what else in them moves memory."""
        kwargs = self.config.get(key)
        if not isinstance(kwargs, Mapping):
            if kwargs:
                self.contradict(key, "must be a mapping, such as use_reentrant: false")
            return
        if isinstance(kwargs.get("use_reentrant"), bool):
            self.use(key, "training.use_reentrant", kwargs["use_reentrant"])
        if kwargs.get("every_n_layers", 1) != 1 or kwargs.get("offload"):
            why = "planned as plain checkpointing of every layer, on the card"
            self.leave_out(key, Effect(why, "with plain checkpointing", saves=True))

    def evaluates(self, key: str, batch: Any, trained: Any, *, planned: bool = True) -> None:
        """Plan evaluation between steps. Where that is not `planned`, leave a larger batch out; others keep less."""
        if batch is None:
            return
        if not isinstance(batch, int) or isinstance(batch, bool) or not isinstance(trained, int):
            self.contradict(key, "must be a whole number, as the batch that is trained")
            return
        if planned:
            self.use(key, "training.per_device_eval_batch_size", batch)
        elif batch > trained:
            self.leave_out(key, EVALUATION)
        else:
            self.ignored.append(Ignored(key, "evaluates no more at a time than it trains, and keeps less of it"))

    def pads(self, key: str) -> None:
        """Say that nothing packs the sequences (`key` would), so that a batch of several is padded and masked."""
        batch = self.get("training.per_device_train_batch_size")
        if isinstance(batch, int) and batch > 1:
            reason = f"without {key}, sequences of a batch differ in length and are padded"
            self.assume("training.padded", True, reason)

    def on(self, key: str) -> bool:
        """Whether a switch of the file is on; 1 is on, too. What is no switch's value is a contradiction."""
        value = self.config.get(key)
        if value not in (None, "", False, True):
            self.contradict(key, f"must be true or false; got {str(value)[:40]!r}")
        return bool(value == 1)


@dataclass(frozen=True)
class Trainer:
    """One dialect. `sections` are keys whose own keys are read as `section.key`.

    `signature`: keys that give the dialect away. `handled`: keys that `settle` reads by itself. `ignored`: keys that
    are no part of a plan. `edits`: rules that only write, for settings that `settle` reads; `rewrites`: settings that
    take more than one key.
    """

    id: str
    name: str
    signature: frozenset[str]
    rules: tuple[Rule, ...]
    settle: Callable[[Reading], None]
    handled: frozenset[str] = frozenset()
    ignored: IgnoredKeys = field(default_factory=IgnoredKeys)
    sections: frozenset[str] = frozenset()
    edits: tuple[Rule, ...] = ()
    rewrites: Mapping[str, Callable[[dict[str, Any], Any], None]] = field(default_factory=dict)

    def read(self, config: Mapping[str, Any]) -> Reading:
        """Understand `config`: every key ends up recognised, ignored with a reason, or contradicted."""
        reading = Reading(self.flat(config))
        rules = {rule.key: rule for rule in self.rules}
        for key, value in reading.config.items():
            if value is None or (isinstance(value, str | dict | list) and not value):
                continue
            if key in rules:
                self._put(reading, rules[key], rules[key].read(value))
            elif key in self.handled:
                continue
            elif effect := self.ignored.effect(key):
                if not effect.spares(value):
                    reading.leave_out(key, effect)
                elif effect.unless:
                    reading.ignored.append(Ignored(key, f"does not move memory as {str(value)[:40]}"))
            elif self.ignored.has_no_effect(key):
                reading.ignored.append(Ignored(key, "does not move memory"))
            else:
                reading.leave_out(key, self._unknown(key))
        self.settle(reading)
        return reading

    def _put(self, reading: Reading, rule: Rule, value: Any) -> None:
        if rule.refused and (why := rule.refused(value)):
            reading.leave_out(rule.key, Effect(why))
        else:
            reading.use(rule.key, rule.path, value)

    def flat(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` with the keys of its sections beside the others, as `section.key`."""
        found: dict[str, Any] = {}
        for key, value in config.items():
            if key in self.sections and isinstance(value, Mapping):
                found |= {f"{key}.{name}": inner for name, inner in value.items()}
            else:
                found[key] = value
        return found

    @lazy_attribute
    def known(self) -> frozenset[str]:
        """Every key that this dialect has."""
        rules = {rule.key for rule in self.rules}
        return frozenset(rules | self.handled | self.ignored.names | self.signature)

    def knows(self, key: str) -> bool:
        """Whether the dialect has this key, by its name or by a pattern."""
        known = key in self.known or self.ignored.has_no_effect(key)
        return known or self.ignored.effect(key) is not None

    def _unknown(self, key: str) -> Effect:
        near = _nearest(key, self.known)
        return Effect("not known to Fitproof, so that it may move memory" + (f"; did you mean {near}?" if near else ""))

    def edit(self, config: dict[str, Any], change: Mapping[str, Any]) -> list[str]:
        """Write `change` (dotted request paths) into `config`; return the paths that the file has no key for.

        A file with sections is left as it is.
        """
        if self.sections:
            return list(change)
        left = []
        for path, value in change.items():
            if path in self.rewrites:
                self.rewrites[path](config, value)
                continue
            fitting = [rule for rule in (*self.rules, *self.edits) if rule.path == path]
            rule = next((rule for rule in fitting if rule.key in config), fitting[0] if fitting else None)
            if rule is None:
                left.append(path)
            else:
                config[rule.key] = rule.write(value)
        return left


def _nearest(key: str, known: Collection[str]) -> str:
    return next(iter(difflib.get_close_matches(key, known, n=1, cutoff=0.8)), "")


def looked_up(table: Mapping[str, Any], value: Any) -> Any:
    """What `table` has for a word of the file; None for anything else, a list or a mapping among them."""
    return table.get(value) if isinstance(value, str) else None


def words(text: str) -> frozenset[str]:
    """A set of keys written with spaces."""
    return frozenset(text.split())


def listed(value: Any) -> Any:
    """`"q_proj,v_proj"` or a list, as a list."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    return list(value) if isinstance(value, list | tuple) else value


def names_or_all(value: Any) -> Any:
    """`all-linear` alone, or names."""
    names = listed(value)
    return names[0] if names in (["all-linear"], ["linear-names"]) else names
