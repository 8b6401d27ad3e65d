"""What PEFT sees of a model: its modules, which of them are linear layers, and what it puts on one."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from planner.tensors.inventory import Census, Layers, TensorGroup

ALL_LINEAR = "all-linear"
# What trainers mean by every linear layer (Axolotl's lora_target_linear, LLaMA-Factory's lora_target: all): a list of
# nn.Linear's leaf names. PEFT's own all-linear stands for a mixture's stacked experts, too; such a list does not.
LINEAR_NAMES = "linear-names"
FIELD = "lora.target_modules"
# A head that shares the embedding's tensor.
TIED_HEAD = "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted:
    """`count` equal weights with an adapter: A is rank x `columns`, B is `rows` x rank. `layers`: those they are in."""

    name: str
    rows: int
    columns: int
    count: int
    rank: int
    stacked_experts: bool = False
    layers: Layers = ()
    experts: int = 1

    @property
    def rank_each(self) -> int:
        """Of each expert, where A and B hold those of a whole stack."""
        return self.rank // self.experts


def module_name(group: TensorGroup) -> str:
    """Dotted module path of a tensor: its name without the trailing `.weight` or `.bias`."""
    return group.name.removesuffix(".weight").removesuffix(".bias")


def is_module(group: TensorGroup) -> bool:
    """Whether it is a weight, which a module holds."""
    return group.name.endswith(".weight")


def last_layer(modules: Iterable[TensorGroup]) -> int:
    """The number of the last layer, counted from 0; of modules with two numbers the first is not known here."""
    numbered = (group for group in modules if group.name.count("*") == 1)
    return max((layer for group in numbered for layer in group.layers or range(group.count)), default=0)


def is_stacked(group: TensorGroup) -> bool:
    """Whether it holds the weights of several experts, one behind the other."""
    return group.role == "expert" and len(group.shape) == 3


def is_linear(group: TensorGroup) -> bool:
    """Whether nn.Linear holds it, the output head aside."""
    return group.quantizable or (group.role == "linear" and len(group.shape) == 2)


def can_be_adapted(group: TensorGroup) -> bool:
    """Whether PEFT has an adapter for its kind of module."""
    return is_linear(group) or group.role in ("head", "embedding")


def names_of(modules: list[TensorGroup]) -> str:
    """Leaf names of the linear ones, for a message."""
    return ", ".join(dict.fromkeys(module_name(group).rsplit(".", 1)[-1] for group in modules if is_linear(group)))


def with_tied_head(census: Census) -> Census:
    """Add the output head that shares the embedding's tensor: PEFT sees its module, the census counts it once."""
    embedding = next((group for group in census if group.role == "embedding"), None)
    if embedding is None or any(group.role == "head" for group in census):
        return census
    return (*census, replace(embedding, name=f"{TIED_HEAD}.weight", role="head"))
