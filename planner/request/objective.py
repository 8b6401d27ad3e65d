"""What a run optimizes, in TRL's words, and where its reference log-probabilities come from.

Source: trl 1.16 trainer/dpo_config.py, dpo_trainer.py DPOTrainer.__init__ ("Reference model"), and those of kto.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import StrictBool

from planner.request.generation import GenerationFields

Objective = Literal["sft", "dpo", "kto", "orpo", "cpo", "reward", "grpo"]
# Which model scores the batch a second time, without gradients: none does, the trained one with its adapters disabled,
# or a second one.
Reference = Literal["none", "adapters_disabled", "copy"]

# Objectives with a reference model that scores each batch, or did before the first step.
WITH_REFERENCE = frozenset({"dpo", "kto"})
# An example is a pair: the batch is the chosen sequences, then the rejected ones.
PAIRED = frozenset({"dpo", "orpo", "cpo", "reward"})
# TRL computes log-probabilities through its fused head and never makes all logits.
BY_FUSED_HEAD = frozenset({"dpo", "kto", "grpo"})
# Theirs (trl/experimental) take them from all logits, of chosen and rejected sequences together.
BY_ALL_LOGITS = frozenset({"orpo", "cpo"})


class ObjectiveFields(GenerationFields):
    """What `DPOConfig` and `KTOConfig` take beside `TrainingArguments`, as far as it moves bytes.

    `ref_model`: "copy" loads a second model as the reference; None is TRL's default, the trained model with its
    adapters disabled, or a copy where there are no adapters.
    """

    objective: Objective = "sft"
    precompute_ref_log_probs: StrictBool = False
    ref_model: Literal["copy"] | None = None

    def objective_problems(self, loss: str | None, strategies: Sequence[str]) -> Iterator[str]:
        """What of the fields the objective does not take, and of `strategies`, sections for several cards.

        A second forward, or a second model, is planned whole: none of them may be cut into shards.
        """
        if self.objective in BY_FUSED_HEAD and loss not in {None, "chunked"}:
            yield f"training.loss: TRL computes {self.objective} through its fused head, in chunks; drop it"
        elif self.objective in BY_ALL_LOGITS and loss not in {None, "full_logits"}:
            yield f"training.loss: TRL computes {self.objective} from all logits; drop it, or write full_logits"
        elif self.objective == "reward" and loss is not None:
            yield "training.loss: a reward model has one score and no logits of a vocabulary; drop it"
        if self.objective != "grpo" and (name := self.given()):
            yield f"training.{name}: only grpo generates completions; drop it, or use objective grpo"
        yield from self._of_references()
        if self.objective != "sft" and strategies and strategies[0] != "ddp":
            yield f"{strategies[0]}: objective {self.objective} is planned on one card or under ddp; drop it"

    def _of_references(self) -> Iterator[str]:
        if self.objective == "grpo" and self.ref_model:
            yield "training.ref_model: grpo's reference follows from beta; drop it"
        if self.objective == "grpo" and self.precompute_ref_log_probs:
            yield "training.precompute_ref_log_probs: grpo scores what it has just generated; drop it"
        if self.objective in WITH_REFERENCE or self.objective == "grpo":
            return
        for name in ("ref_model", "precompute_ref_log_probs"):
            if getattr(self, name):
                yield f"training.{name}: {self.objective} has no reference model; drop it, or use objective dpo or kto"

    def reference(self, *, has_adapters: bool) -> Reference:
        """Which model is the reference. One that the caller loaded stays where its scores are precomputed, too."""
        if self.ref_model == "copy":
            return "copy"
        if self.objective == "grpo" and self.beta:
            return "adapters_disabled" if has_adapters else "copy"
        if self.objective not in WITH_REFERENCE or self.precompute_ref_log_probs:
            return "none"
        return "adapters_disabled" if has_adapters else "copy"
