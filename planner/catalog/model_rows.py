"""`models.toml`: what is known, and from where, about each model of the catalogue."""

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Json, field_validator

from planner.catalog.names import Entry, alike, entry, nearest, normal_form, search
from planner.catalog.strict import Part, Row, Texts, index_names, read_rows
from planner.errors import FieldProblem, UnknownModelError
from planner.lazy_attribute import lazy_attribute

MODELS_FILE = Path(__file__).with_name("models.toml")

Kind = Literal[
    "verbatim_config_json", "verbatim_config_preset", "transcribed_hf_config", "transcribed_args", "transcribed_yml",
    "litgpt_converted", "library_defaults", "llmfit_dims", "llmfit_dims(sibling)", "llmfit_dims+inferred",
    "llmfit_dims+solved", "gpu_poor_dims", "gpu_poor_dims+solved",
]  # fmt: skip

_PROVENANCE: Mapping[Kind, str] = {
    "verbatim_config_json": "the model's config.json, as copied into a public repository",
    "verbatim_config_preset": "the model's config, as copied into another project's presets",
    "transcribed_hf_config": "written out by a project that checks it against the weights",
    "transcribed_args": "written out from the training arguments",
    "transcribed_yml": "written out from a YAML file",
    "litgpt_converted": "LitGPT's configuration under the hub's names",
    "library_defaults": "the class defaults of a library that names this model as their origin",
    "llmfit_dims": "llmfit's table of dimensions",
    "llmfit_dims(sibling)": "llmfit's table of dimensions, from a model of equal count",
    "llmfit_dims+inferred": "llmfit's table of dimensions, completed by the family's rule",
    "llmfit_dims+solved": "llmfit's table of dimensions, completed by what the exact count leaves possible",
    "gpu_poor_dims": "gpu_poor's table of dimensions",
    "gpu_poor_dims+solved": "gpu_poor's table of dimensions, completed by what the exact count leaves possible",
}


class PublishedCount(Part):
    """A published parameter count."""

    value: Annotated[int, Field(gt=0)]
    estimate: bool = False
    source: Annotated[str, Field(min_length=1)]


class ModelRow(Row):
    """One model and its twins. Keys that `config` does not hold are not claimed: class defaults fill them.

    `params` was counted on the meta device. `gated` is absent if the repository was not read without a token.
    `unsourced` names what matters for memory and no source states. `downloads` only ranks search results.
    `full_model` counts the checkpoint this text tower belongs to, `tower` whether the class that transformers 5.23
    makes of it (models/auto/modeling_auto.py) loads the rest, too. `ties`: whether head and embedding are one follows
    from the count, or untied, the larger, was assumed. `solved` names keys that only one value makes the count right.
    """

    aliases: Texts = ()
    twins: Texts = ()
    architecture: str
    params: Annotated[int, Field(gt=0)]
    published: Annotated[tuple[PublishedCount, ...], Field(strict=False)] = ()
    licence: str | None = None
    gated: bool | None = None
    downloads: int = 0
    kind: Kind
    match: str
    full_model: int | None = None
    tower: Literal["loaded", "left out"] | None = None
    ties: Literal["count", "assumed"] | None = None
    solved: Texts = ()
    unsourced: Texts = ()
    note: str = ""
    sources: Annotated[Texts, Field(min_length=1)]
    checked: date
    config: Json[dict[str, Any]]

    @property
    def other_names(self) -> tuple[str, ...]:
        """Aliases, and the ids of the twins: repositories with the very same tensors."""
        return self.aliases + self.twins

    @property
    def provenance(self) -> str:
        """How the config came to be known, in words."""
        return _PROVENANCE[self.kind]

    @field_validator("config")
    @classmethod
    def _names_its_type(cls, config: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(config.get("model_type"), str):
            msg = "holds no model_type; add it"
            raise ValueError(msg)
        return config

    @property
    def model_type(self) -> str:
        """Transformers' name of the architecture."""
        return str(self.config["model_type"])


class ModelCatalog:
    """All rows of one file, found by id, alias, or words."""

    def __init__(self, path: Path = MODELS_FILE) -> None:
        self.rows: Mapping[str, ModelRow] = {row.id: row for row in read_rows(path, "model", ModelRow)}
        self._names = index_names(path, self.rows.values(), short=True)

    @lazy_attribute
    def _entries(self) -> tuple[Entry, ...]:
        """The search index; built on first use."""
        return tuple(_entry(row) for row in self.rows.values())

    def find(self, name: str) -> ModelRow:
        """Find a row by id, by its name without the publisher, or by alias; case and dashes do not matter.

        Raises:
            UnknownModelError: suggests the nearest ids.
        """
        row_id = self._names.get(normal_form(name))
        if row_id is None:
            raise _unknown(name, nearest(name, self._entries))
        return self.rows[row_id]

    def search(self, query: str) -> list[ModelRow]:
        """Rows that hold every word of `query`, best first; all of them for an empty query."""
        return [self.rows[row_id] for row_id in search(query, self._entries)]

    def alike(self, query: str) -> list[ModelRow]:
        """Rows that a mistyped query may have meant, the likeliest first."""
        return [self.rows[found] for found in alike(query, self._entries)]


@lru_cache(maxsize=1)
def model_catalog() -> ModelCatalog:
    """The catalogue that ships with the package, read at first use."""
    return ModelCatalog()


def _entry(row: ModelRow) -> Entry:
    ids = (row.id, *row.twins)
    return entry(row.id, (*ids, *(model_id.rpartition("/")[2] for model_id in ids), *row.aliases), weight=row.downloads)


def _unknown(name: str, suggestions: list[str]) -> UnknownModelError:
    meant = f"did you mean {', '.join(suggestions)}? Or " if suggestions else "not in the catalogue; "
    ways = "give a hub id, paste the model's config.json, or in the terminal name its folder"
    return UnknownModelError(f"No model answers to {name!r}.", [FieldProblem("model", meant + ways)])
