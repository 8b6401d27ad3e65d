"""`gpus.toml`: the cards, and how much of each the driver gives torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from planner.catalog.machines import names_of
from planner.catalog.misnamed import Known, explained, with_its_memory
from planner.catalog.names import Entry, alike, entry, nearest, normal_form, search
from planner.catalog.strict import Part, Row, Texts, index_names, read_rows
from planner.catalog.tensor_cores import half_flops
from planner.catalog.usable import Sample, Usable, usable_memory
from planner.errors import FieldProblem, UnknownGpuError
from planner.gpu import Gpu
from planner.lazy_attribute import lazy_attribute
from planner.request.schema import CustomGpu

GPUS_FILE = Path(__file__).with_name("gpus.toml")

_BRANDS = frozenset({"nvidia", "geforce", "tesla", "amd", "instinct"})
# A family has at most as many cards.
_MOST_SUGGESTED = 8
_CAPABILITY = r"^\d{1,2}\.\d$"


class SmiReading(Part):
    """One total printed by nvidia-smi. `when` tells a reading apart from the card's usual state (ECC)."""

    mib: int
    when: str = ""
    source: Annotated[str, Field(min_length=1)]


class TorchReading(Part):
    """One `torch.cuda.get_device_properties(i).total_memory`. `bytes` where the page printed them."""

    mib: float
    bytes: int | None = None
    os: Literal["linux", "linux_ecc_on", "linux_ecc_off", "windows_or_wsl", "unknown"]
    source: Annotated[str, Field(min_length=1)]


class GpuRow(Row):
    """One card. `family` is the generation and line whose driver gaps may stand for each other.

    `bitsandbytes_4bit` says whether bitsandbytes 0.50 lists the platform for 4-bit QLoRA. `sold_in` names the one
    country that a card was made for; empty for all others.
    """

    name: str
    aliases: Texts = ()
    vendor: Literal["NVIDIA", "AMD", "Apple"]
    form: Literal["desktop", "laptop", "workstation", "workstation/server", "datacenter", "soc"]
    family: str
    nominal_gb: int | None = None
    compute_capability: Annotated[str, Field(pattern=_CAPABILITY)] | None = None
    multiprocessors: Annotated[int, Field(ge=1)] | None = None
    boost_mhz: Annotated[int, Field(ge=1)] | None = None
    bitsandbytes_4bit: bool
    bandwidth_gb_s: float | None = None
    memory_type: str | None = None
    ecc: str = ""
    note: str = ""
    sold_in: str = ""
    nvidia_smi: Annotated[tuple[SmiReading, ...], Field(strict=False)] = ()
    torch_total: Annotated[tuple[TorchReading, ...], Field(strict=False)] = ()
    sources: Annotated[Texts, Field(min_length=1)]
    checked: date

    @property
    def other_names(self) -> tuple[str, ...]:
        """What people call the card, machines that are rented with it among them."""
        return (*self.aliases, *names_of(self.id))

    @property
    def capability(self) -> tuple[int, int] | None:
        """`(8, 9)` for `"8.9"`."""
        return capability_of(self.compute_capability) if self.compute_capability else None

    def sample(self) -> Sample:
        """What the row contributes to the question of usable memory."""
        usual = [reading.mib for reading in self.nvidia_smi if not reading.when]
        return Sample(
            id=self.id,
            family=self.family,
            smi_mib=usual[0] if usual else None,
            torch_readings=tuple((r.os, r.bytes or int(r.mib * (1 << 20))) for r in self.torch_total),
        )


@dataclass(frozen=True, slots=True)
class Card:
    """A row, and the card the planner reads; `gpu` is None where no source tells how much memory torch gets."""

    row: GpuRow
    gpu: Gpu | None


class Counted(NamedTuple):
    """A card whose multiprocessors a source counts."""

    capability: tuple[int, int]
    usable_bytes: int
    multiprocessors: int


class GpuCatalog:
    """All rows of one file, found by id, alias, or words."""

    def __init__(self, path: Path = GPUS_FILE) -> None:
        rows = read_rows(path, "gpu", GpuRow)
        samples = [row.sample() for row in rows]
        usable = {row.id: usable_memory(sample, samples) for row, sample in zip(rows, samples, strict=True)}
        self._counted = tuple(
            Counted(row.capability, found.bytes, row.multiprocessors)
            for row in rows
            if (found := usable[row.id]) and row.capability and row.multiprocessors
        )
        self.cards: Mapping[str, Card] = {row.id: Card(row, self._gpu(row, usable[row.id])) for row in rows}
        official = {normal_form(name): row.id for row in rows for name in _official_names(row)}
        self._names = official | index_names(path, rows)

    @lazy_attribute
    def _entries(self) -> tuple[Entry, ...]:
        """The search index; built on first use."""
        return tuple(_entry(row) for row in (card.row for card in self.cards.values()))

    def find(self, name: str) -> Card:
        """Find a card by id, alias or the name the driver prints; case and dashes do not matter.

        Raises:
            UnknownGpuError: suggests the nearest ids.
        """
        known = self._known(name) or with_its_memory(name, self._known)
        if known is None:
            raise self._unknown(name)
        return self.cards[known.id]

    def _known(self, name: str) -> Known | None:
        form = normal_form(name)
        card_id = self._names.get(form) or self._names.get(_without_brand(form))
        return Known(card_id, self.cards[card_id].row.nominal_gb) if card_id else None

    def _unknown(self, name: str) -> UnknownGpuError:
        title = f"No card answers to {name!r}."
        known = [Known(card_id, card.row.nominal_gb) for card_id, card in self.cards.items() if card.gpu]
        if fix := explained(name, known, self._known):
            return UnknownGpuError(title, [FieldProblem("gpu", fix)])
        of_that_name = search(name, self._entries) if normal_form(name) else []
        suggestions = of_that_name if 0 < len(of_that_name) <= _MOST_SUGGESTED else nearest(name, self._entries)
        fix = f"did you mean {', '.join(suggestions)}? Or " if suggestions else "not in the catalogue; "
        return UnknownGpuError(
            title, [FieldProblem("gpu", f'{fix}give {{"total_memory_bytes": ..., "compute_capability": "8.9"}}')]
        )

    def multiprocessors_like(self, capability: tuple[int, int] | None, usable_bytes: int) -> int | None:
        """Of a card whose multiprocessors are not published: those of this generation's card that is nearest in memory.

        None for a generation of which no card is counted.
        """
        kin = [
            (card.capability != capability, abs(card.usable_bytes - usable_bytes), card.multiprocessors)
            for card in self._counted
            if capability and card.capability[0] == capability[0]
        ]
        return min(kin)[2] if kin else None

    def _gpu(self, row: GpuRow, usable: Usable | None) -> Gpu | None:
        if usable is None:
            return None
        count = row.multiprocessors or self.multiprocessors_like(row.capability, usable.bytes)
        return _gpu(row, usable, count)

    def search(self, query: str) -> list[Card]:
        """Cards that hold every word of `query` ("24gb" is such a word), best first; all for an empty query."""
        return [self.cards[card_id] for card_id in search(query, self._entries)]

    def alike(self, query: str) -> list[Card]:
        """Cards that a mistyped query may have meant, the likeliest first."""
        return [self.cards[found] for found in alike(query, self._entries)]


@lru_cache(maxsize=1)
def gpu_catalog() -> GpuCatalog:
    """The catalogue that ships with the package, read at first use."""
    return GpuCatalog()


def capability_of(text: str) -> tuple[int, int]:
    """`(8, 9)` for `"8.9"`."""
    major, minor = text.split(".")
    return int(major), int(minor)


def custom_gpu(card: CustomGpu) -> Gpu:
    """A card outside the catalogue: the caller's own figures, and in its name what they leave open."""
    given = "compute_capability" in card.model_fields_set
    supposed = "" if given else f", as compute capability {card.compute_capability}"
    capability = capability_of(card.compute_capability)
    return Gpu(
        id="custom",
        name=card.name + supposed,
        usable_bytes=card.total_memory_bytes,
        usable_evidence="given",
        usable_source="total_memory_bytes of the request",
        compute_capability=capability,
        multiprocessors=gpu_catalog().multiprocessors_like(capability, card.total_memory_bytes),
    )


def _gpu(row: GpuRow, usable: Usable, multiprocessors: int | None) -> Gpu:
    return Gpu(
        id=row.id,
        name=row.name,
        usable_bytes=usable.bytes,
        usable_evidence=usable.evidence,
        usable_source=usable.source,
        compute_capability=row.capability,
        multiprocessors=multiprocessors,
        nominal_gb=row.nominal_gb,
        vendor=row.vendor,
        bitsandbytes_4bit=row.bitsandbytes_4bit,
        half_flops=half_flops(row.name, row.capability, row.multiprocessors, row.boost_mhz),
        bandwidth_bytes_s=round(row.bandwidth_gb_s * 1e9) if row.bandwidth_gb_s else None,
        note="; ".join(part for part in (row.ecc, row.note) if part),
    )


def _without_brand(form: str) -> str:
    """Drop the words that drivers print before a card's own name."""
    return " ".join(word for word in form.split() if word not in _BRANDS)


def _official_names(row: GpuRow) -> tuple[str, str]:
    """The name the driver prints, and the same without the maker."""
    return row.name, row.name.removeprefix(f"{row.vendor} ")


def _entry(row: GpuRow) -> Entry:
    size = f"{row.nominal_gb}gb" if row.nominal_gb else ""
    major, minor = row.capability or (0, 0)
    newest_first = 10 * major + minor
    return entry(
        row.id,
        (row.id, *_official_names(row), *row.other_names),
        more=(row.vendor, row.family, row.form, size),
        weight=newest_first,
    )


def unplannable(row: GpuRow) -> UnknownGpuError:
    """The error for a card whose memory, as torch sees it, no source states, or that no formula is about."""
    if row.vendor == "Apple":
        return UnknownGpuError(f"{row.name} is not supported.", [FieldProblem("gpu", row.note)])
    return UnknownGpuError(
        f"No source says how much memory torch gets on {row.name}.",
        [
            FieldProblem(
                "gpu",
                "read torch.cuda.get_device_properties(0).total_memory on the card and give "
                '{"total_memory_bytes": ..., "compute_capability": "8.9"}',
            )
        ],
    )
