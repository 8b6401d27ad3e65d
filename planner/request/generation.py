"""What GRPO's trainer is told beside `TrainingArguments`: how many completions it generates, and how long.

Source: trl 1.16 trainer/grpo_config.py GRPOConfig; grpo_trainer.py _generate_and_score_completions (when the model
scores its completions once more before it trains on them).
"""

from typing import Annotated

from pydantic import Field, StrictInt

from planner.request.base import Frozen

_Tokens = Annotated[StrictInt, Field(ge=1, le=16_777_216)]
# GRPOConfig's default max_completion_length.
COMPLETION_TOKENS = 512
_Count = Annotated[StrictInt, Field(ge=1, le=65_536)]


class GenerationFields(Frozen):
    """GRPO's own. `max_length` counts prompt and completion, of which `max_completion_length` are the completion.

    None is TRL's default: 512 tokens, a generation for every optimizer step, groups that are not checked.
    `beta` other than 0 asks for a reference model. With `vllm_gpu_memory_utilization` vLLM generates in this process,
    in that share of the card, with 0 in another process; without, transformers' `generate` does.
    """

    max_completion_length: _Tokens | None = None
    num_generations: Annotated[StrictInt, Field(ge=2, le=65_536)] | None = None
    steps_per_generation: _Count | None = None
    num_iterations: _Count = 1
    beta: Annotated[float, Field(strict=True, ge=0.0, le=1e3)] = 0.0
    vllm_gpu_memory_utilization: Annotated[float, Field(strict=True, ge=0.0, lt=1.0)] | None = None

    def generation_problem(self, *, length: int, batch: int, accumulation: int) -> str:
        """What is wrong with the generation of completions, with its field; empty where nothing is.

        `batch` counts the completions that all cards train on at a time.
        """
        steps = self.steps_per_generation or accumulation
        if self.completion >= length:
            return f"training.max_completion_length: {self.completion} tokens leave no prompt in max_length {length}"
        if steps % accumulation:
            return (
                "training.steps_per_generation: generating between the micro-batches of one optimizer step is not "
                f"planned; write a multiple of gradient_accumulation_steps {accumulation}"
            )
        if self.num_generations and batch * steps % self.num_generations:
            return (
                f"training.num_generations: {batch * steps} completions at a time are no whole groups of "
                f"{self.num_generations}; change it, the batch or the accumulation"
            )
        return ""

    def given(self) -> str:
        """The first field that only GRPO reads and that is set; empty where none is."""
        fields = GenerationFields.model_fields.items()
        return next((name for name, field in fields if getattr(self, name) != field.default), "")

    @property
    def completion(self) -> int:
        """Tokens of a completion at most."""
        return self.max_completion_length or COMPLETION_TOKENS

    def scores_own_completions(self, accumulation: int) -> bool:
        """Whether the log-probabilities of the model that generated are worked out before it is trained.

        They are where it is trained further before they are used, and where vLLM generated.
        """
        again = (self.steps_per_generation or accumulation) * self.num_iterations
        return accumulation % again != 0 or self.vllm_gpu_memory_utilization is not None
