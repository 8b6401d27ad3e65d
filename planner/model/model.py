"""A model as the formulas see it: its config, every tensor, and where each of the two was learned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from planner.catalog.generated import generated_census
from planner.catalog.model_rows import ModelCatalog, ModelRow, model_catalog
from planner.errors import FieldProblem, InvalidRequestError, UnknownArchitectureError, UnknownModelError
from planner.families import Decoder, builds_text_alone, census_of, decoder_of
from planner.tensors.inventory import Census, TensorGroup, total_params
from planner.units import format_gib

# NAME_MAX of the common file systems; asking them about more is an error.
_LONGEST_FILE_NAME = 255
# Five times the largest published so far, of two trillion: what is above is a typing mistake, and slow to walk.
_MOST_PARAMS = 10**13

# The same dimension goes by several names in transformers' configs.
_SPELLINGS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
    "dtype": ("dtype", "torch_dtype"),
    "tied": ("tie_word_embeddings",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model, ready to plan.

    `census` comes from the real module tree for catalogue models ("generated") and from the family's closed form
    for any other config ("closed form"). `decoder` is None where the formulas do not know the architecture;
    only the catalogue holds such models. `row` is the catalogue's evidence, None for a pasted config.
    """

    id: str
    model_type: str
    config: Mapping[str, Any]
    census: Census
    census_source: Literal["generated", "closed form"]
    decoder: Decoder | None
    row: ModelRow | None = None

    @property
    def beside(self) -> str:
        """What the checkpoint holds beside the text model, and whether it is counted; empty where it holds no more."""
        if self.row is None:
            return _towers_of(self.config)
        if self.row.tower is None or self.row.full_model is None:
            return ""
        params = self.row.full_model - self.row.params
        size = f"{params / 1e9:.2f} B parameters, {format_gib(2 * params)} in 16 bit"
        if self.row.tower == "loaded":
            return f"trained on text, its vision tower ({size}) beside it"
        return f"the text model alone, without what AutoModelForCausalLM leaves out (vision tower: {size})"

    @property
    def params(self) -> int:
        """Parameters, tied weights once."""
        return total_params(self.census)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the config was learned."""
        return self.row.sources if self.row else ("the config.json given with the request",)

    @property
    def facts(self) -> dict[str, Any]:
        """What the config states under any spelling: hidden_size, layers, heads, ... A missing fact is not claimed."""
        return config_facts(self.config)

    def known_decoder(self) -> Decoder:
        """Return the shape the activation formulas read.

        Raises:
            UnknownArchitectureError: the formulas do not know this model type; the dry run may.
        """
        return self.decoder if self.decoder is not None else decoder_of(self.config)


def _towers_of(config: Mapping[str, Any]) -> str:
    """What a config.json describes beside its language model; its weight is in no catalogue."""
    towers = {"vision tower": "vision_config", "audio tower": "audio_config"}
    named = " and ".join(name for name, key in towers.items() if config.get(key))
    if not named:
        return ""
    if builds_text_alone(str(config.get("model_type"))):
        return f"the text model alone, without what AutoModelForCausalLM leaves out ({named})"
    return f"trained on text, its {named} beside it"


def config_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Read the dimensions people ask for out of a config, under whichever name it uses. Unstated ones are absent."""
    text = config.get("text_config")
    merged = {**config, **text} if isinstance(text, Mapping) else config
    found = {fact: next((merged[key] for key in keys if key in merged), None) for fact, keys in _SPELLINGS.items()}
    return {fact: value for fact, value in found.items() if value is not None}


def resolve_model(
    model: str | Mapping[str, Any], catalog: ModelCatalog | None = None, *, local_files: bool = False
) -> Model:
    """Find a model by name, or read the one that `model`, a whole config.json object, describes.

    `local_files` lets a name be a folder or a config.json on this machine. Off by default: a name that came over
    the network must never open a file. Nothing is fetched here; the app fetches a hub config and passes it on.

    Raises:
        UnknownModelError: nothing answers to the name; suggests the nearest.
        UnknownArchitectureError: a config whose model type the formulas do not know.
        InvalidRequestError: a config without a usable `model_type`, or a file that is no config.
    """
    if isinstance(model, Mapping):
        return _from_config(model)
    if local_files and (config := local_config(model)) is not None:
        return _from_config(config)
    return _from_catalog(model) if catalog is None else _from_row(catalog.find(model))


@lru_cache(maxsize=512)
def _from_catalog(name: str) -> Model:
    return _from_row(model_catalog().find(name))


def _from_row(row: ModelRow) -> Model:
    try:
        decoder = decoder_of(row.config)
    except UnknownArchitectureError:
        decoder = None
    return Model(
        id=row.id,
        model_type=row.model_type,
        config=row.config,
        census=(*_with_layers(generated_census(row.id), decoder), *_tower(row)),
        census_source="generated",
        decoder=decoder,
        row=row,
    )


def _with_layers(census: Census, decoder: Decoder | None) -> Census:
    """A generated census says how many layers have a tensor; the decoder says which."""
    layers = {(group.name, group.shape): group.layers for group in census_of(decoder)} if decoder else {}
    return tuple(replace(group, layers=layers.get((group.name, group.shape), ())) for group in census)


def _tower(row: ModelRow) -> Census:
    """The vision tower and projector that load with the text model, as one tensor that no text enters.

    Their linear layers are quantized, too, where the text model's are: what they take is at most what is counted here.
    """
    if row.tower != "loaded" or row.full_model is None:
        return ()
    params = row.full_model - row.params
    return (TensorGroup(name="model.vision_tower.and_projector", role="tower", shape=(params,), count=1),)


def _from_config(config: Mapping[str, Any]) -> Model:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise InvalidRequestError(
            "The model's config cannot be used.",
            [FieldProblem("model.model_type", 'missing; paste the whole config.json, it holds "model_type"')],
        )
    decoder, name = decoder_of(config), config.get("_name_or_path")
    census = census_of(decoder)
    if (params := total_params(census)) > _MOST_PARAMS:
        fix = f"would have {params:.1e} parameters, more than any model; check its sizes and its number of layers"
        raise InvalidRequestError("The model's config cannot be used.", [FieldProblem("model", fix)])
    return Model(
        id=name if isinstance(name, str) and name else f"a {model_type} config",
        model_type=model_type,
        config=config,
        census=census,
        census_source="closed form",
        decoder=decoder,
    )


def local_config(path: str) -> dict[str, Any] | None:
    """Read config.json at `path`, a folder or the file itself; None where neither is.

    Raises:
        UnknownModelError: the folder holds no config.json.
        InvalidRequestError: the file is no JSON object.
    """
    place = Path(path)
    if len(place.name) > _LONGEST_FILE_NAME:
        return None
    if place.is_dir():
        place /= "config.json"
        if not place.is_file():
            raise UnknownModelError(
                f"The folder {path!r} holds no config.json.",
                [FieldProblem("model", "point at a model's folder, or at its config.json")],
            )
    if not place.is_file():
        return None
    try:
        config = json.loads(place.read_text(encoding="utf-8"))
    except ValueError as error:  # json.JSONDecodeError and UnicodeDecodeError
        raise _bad_file(place, f"not JSON ({error})") from None
    if not isinstance(config, dict):
        raise _bad_file(place, "not a JSON object")
    return {"_name_or_path": place.parent.name, **config}


def _bad_file(place: Path, fault: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{place.name} cannot be used as a model config.",
        [FieldProblem("model", f"{place}: {fault}; give the config.json that came with the weights")],
    )
