"""What a key that moves memory does to it, where no formula plans it: how the answer speaks of what was left out."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from planner.answer.not_planned import CardShare, FrozenCopy, Least

# vllm_gpu_memory_utilization where a trainer runs vLLM in its own process (trl 1.16, GRPOConfig).
VLLM_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Effect:
    """`why` it moves memory; `planned`: what was planned instead, for the headline; `saves`: it may need less.

    `least` reads from the key's value what it is certain to take. `unless`: patterns of values that do nothing.
    """

    why: str
    planned: str = ""
    saves: bool = False
    least: Callable[[Any], Least | None] | None = None
    unless: tuple[str, ...] = ()

    def spares(self, value: Any) -> bool:
        """Whether the key does nothing to memory with this value."""
        if value is True or value not in (False, 0, 1):  # True is 1, but says something else
            return any(fnmatchcase(str(value).lower(), pattern) for pattern in self.unless)
        return True


def card_share(value: Any) -> Least | None:
    """A fraction of the card."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return CardShare(float(value)) if is_number and 0 < value <= 1 else None


def second_model(value: Any) -> Least | None:
    """A model by its name."""
    return FrozenCopy(value) if isinstance(value, str) else None


SFT = "as plain SFT"
SEQUENCES = Effect(
    "cuts each sequence over cards by code that is not planned; planned whole", "with whole sequences on each card",
    saves=True,
)
ONE_CARD = Effect("spreads memory over cards or the host; one card is planned", "as one card alone", saves=True)
UNSLOTH = Effect("no formula for Unsloth's kernels", "without Unsloth's kernels", saves=True)
LESS = Effect("keeps less than the model's own code; planned without, which needs more", saves=True)
EVALUATION = Effect("evaluates more sequences at a time than it trains; evaluation is not in the plan")
PREFERENCES = Effect(
    "preference, reward and online training run more sequences and forwards than SFT; planned as SFT", SFT
)
REFERENCE = Effect("a second model beside the trained one", f"{SFT}, without the reference model", least=second_model)
VLLM = Effect("vLLM generates on this card; not in the plan", "without vLLM beside it", least=card_share)
PARTIAL = Effect("trains a part of the weights; planned with all of them", "as training every weight", saves=True)
HALVES = Effect("halves the batch after running out; the batch stated is planned", saves=True)
COMPILED = Effect("compiled graphs save other activations; planned without", "without torch.compile", saves=True)
OFFLOADED = Effect("moves checkpoints to the host; planned on the card", "without offloading", saves=True)
FP8 = Effect("8-bit floats; not in the plan", "without FP8", saves=True)
PROJECTED = Effect("low-rank gradients; not in the plan", "with the plain optimizer", saves=True)
QAT = Effect(
    "quantization-aware training makes a fake-quantized copy of each weight in the forward pass, and saves it with its "
    "scales and masks for the backward pass; not in the plan",
    "without quantization-aware training",
)
NO_FORMULA = Effect("no formula for it here", saves=True)
VOCABULARY = Effect("a larger vocabulary weighs more; not in the plan")
LAYERS = Effect("changes which layers run or train; planned with all of them", "with all layers", saves=True)
TOWERS = Effect("trains a part of the towers; planned with the text's layers alone", "without training the towers")
IMAGES = Effect("images and sound run through the model's towers; planned with text alone", "with text alone")
OWN_DECODER = Effect(
    "a decoder of its own; planned as transformers and peft run it", "as transformers runs it", saves=True
)
