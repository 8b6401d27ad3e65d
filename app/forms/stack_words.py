"""The training stack in the words people know it by: names of trainers beside the four presets of a request.

As app/imports reads the trainers' own files: Axolotl and LLaMA-Factory train in Trainer's dtypes, Axolotl prepares a
quantized mixture of experts, and Unsloth replaces kernels that no formula follows.
"""

from planner.answer.not_planned import NotPlanned
from planner.model.model import Model
from planner.request.schema import Request
from planner.tensors.targets import has_stacked_experts

CHOICES = {
    "trainer": "transformers’ Trainer",
    "trl": "TRL’s SFTTrainer",
    "kbit": "I call prepare_model_for_kbit_training",
    "unsloth": "Unsloth",
    "axolotl": "Axolotl",
    "llama-factory": "LLaMA-Factory",
    "loop": "my own loop",
    "custom": "spelled out below",
}
PRESETS = ("trl", "trainer", "kbit", "loop")
# Names that are no preset of their own.
_MEANS = {"unsloth": "trainer", "axolotl": "trainer", "llama-factory": "trainer"}
_UNSLOTH = NotPlanned(
    key="stack",
    value="unsloth",
    why="no formula for Unsloth's kernels; planned in Trainer's dtypes with the model's own",
    planned="without Unsloth's kernels",
    saves=True,
)


def preset(word: str) -> str:
    """The request's `stack` for a word of the form; a word that is none is left for the request to refuse."""
    return _MEANS.get(word, word)


def trainer_named(word: str) -> str:
    """The word where it names a trainer that is no preset, else an empty text."""
    return word if word in _MEANS else ""


def as_trained(request: Request, word: str, model: Model) -> Request:
    """The request as the named trainer runs it on this model."""
    if word == "axolotl" and request.method == "qlora" and has_stacked_experts(model.census):
        return request.model_copy(update={"stack": "kbit"})
    return request


def left_out(word: str) -> tuple[NotPlanned, ...]:
    """What the named trainer does that no formula plans."""
    return (_UNSLOTH,) if word == "unsloth" else ()
