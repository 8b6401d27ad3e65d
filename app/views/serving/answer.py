"""An inference answer made ready for its page: the bars, the sentence, what else would fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.drawing.bars import Bars, Row, draw_bars
from app.templating import gib, thousands
from app.views.messages import short_gpu_name
from planner.lazy_attribute import lazy_attribute
from planner.serving.answer import Served, served
from planner.serving.vllm import OUTSIDE_BYTES
from planner.step.attention.kv_cache import CACHE

# What each kind of bytes is called, and the cause whose colour it has.
WORDS = {
    "weights": "Weights",
    "adapters": "Adapter",
    "cache": "Keys and values of the context",
    "work": "Working memory",
    "outside": "Outside torch’s tensors",
}
COLOURS = {"weights": "weights", "adapters": "adapters", "cache": "activations", "work": "workspace", "outside": "rest"}
_OUTSIDE_WORDS = {"llama.cpp": "CUDA context", "vllm": "Outside torch"}
_USERS = (1, 4, 16, 64)


@dataclass(frozen=True)
class ServingAnswer:
    """Everything the page reads of one answered question."""

    found: Served

    @lazy_attribute
    def limits(self) -> Mapping[str, int | None]:
        """The longest context and the most users, each alone."""
        return self.found.limits()

    @property
    def words(self) -> dict[str, str]:
        """What the parts of the bars are called."""
        outside = _OUTSIDE_WORDS.get(self.found.asked.engine)
        return WORDS | ({"outside": outside} if outside else {})

    @property
    def modelled(self) -> bool:
        """Whether the engine's own rules were followed, and none was run."""
        return self.found.asked.engine != "transformers"

    @property
    def model_name(self) -> str:
        """The model without its publisher."""
        return self.found.model.id.rpartition("/")[2]

    @property
    def gpu_name(self) -> str:
        """The card as people say it."""
        return short_gpu_name(self.found.gpu.name)

    @property
    def headroom_bytes(self) -> int:
        """What is left, likely; negative where it does not fit."""
        return self.found.usable_bytes - self.found.required.likely

    @property
    def sentence(self) -> str:
        """The verdict."""
        asked = self.found.asked
        what = f"{_users(asked.batch)} with {thousands(asked.context)} tokens"
        if self.found.verdict == "fits":
            return f"Fits: {what}, {gib(self.headroom_bytes, 1)} to spare."
        if self.found.verdict == "does_not_fit":
            return f"Does not fit: {what}, {gib(-self.headroom_bytes, 1)} too much."
        lean = "likely fits" if self.headroom_bytes >= 0 else "likely not"
        return f"Tight, {lean}: {what}."

    @property
    def bars(self) -> Bars:
        """This question, and what the card would hold at its limits."""
        asked, rows = self.found.asked, [Row("what you ask for", parts_of(self.found), marked=True)]
        context, batch = self.limits["context"] or 0, self.limits["batch"] or 0
        if context > asked.context:
            name = f"{thousands(context)} tokens for {_users(asked.batch)}, the longest"
            rows.append(Row(name, parts_of(self._changed(context=context))))
        if batch > asked.batch:
            name = f"{thousands(batch)} users with {thousands(asked.context)} tokens, the most"
            rows.append(Row(name, parts_of(self._changed(batch=batch))))
        return draw_bars(rows, self.found.usable_bytes)

    @lazy_attribute
    def longest(self) -> list[tuple[int, int]]:
        """For some numbers of users the longest context of each, as far as any fits."""
        users = sorted({*_USERS, self.found.asked.batch})
        found = [(batch, self._changed(batch=batch).longest_context() or 0) for batch in users]
        return [row for row in found if row[1]]

    def _changed(self, **change: int) -> Served:
        return served(self.found.asked.model_copy(update=change), model=self.found.model, gpu=self.found.gpu)


def parts_of(found: Served) -> dict[str, int]:
    """What is needed, by kind, at the fullest moment; together the likely bytes.

    vLLM's own line of the cache is all that its share has left; here it is what the question needs of that.
    """
    peak = max(found.totals, key=found.totals.__getitem__)
    parts = dict.fromkeys(WORDS, 0)
    for line in found.lines:
        if peak in line.alive_in:
            kind = line.cause if line.cause in {"weights", "adapters"} else "cache" if CACHE in line.name else "work"
            parts[kind] += line.bytes
    beside = found.required.likely - sum(parts.values())
    if found.asked.engine == "vllm":
        parts["outside"] = OUTSIDE_BYTES
        parts["cache"] += beside - OUTSIDE_BYTES
    else:
        parts["outside"] = beside
    return parts


def _users(count: int) -> str:
    return "1 user" if count == 1 else f"{thousands(count)} users"
