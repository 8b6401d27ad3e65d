"""The training stack in the words people know it by: names of trainers beside the five presets of a request.

As app/imports reads the trainers' own files: Axolotl and LLaMA-Factory train in Trainer's dtypes, and Axolotl prepares
a quantized mixture of experts.
"""

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
PRESETS = ("trl", "trainer", "kbit", "loop", "unsloth")
# Names that are no preset of their own.
_MEANS = {"axolotl": "trainer", "llama-factory": "trainer"}


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
