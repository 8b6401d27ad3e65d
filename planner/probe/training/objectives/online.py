"""GRPO by TRL's own trainer: it generates, scores and computes its loss itself, on an object that never prepared data.

As for preferences (planner/probe/training/objectives/preference.py), the attributes of `__init__` are set here. In
place of a tokenizer and of reward functions stand ones that need no words: every prompt has the length that was asked
for, no completion ends early, and all are worth the same.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch

from planner.probe.training.load import torch_dtype
from planner.probe.training.objectives.preference import OneProcess
from planner.probe.training.stack import StepLoss
from planner.request.recipe import Recipe

# A token that no vocabulary has: what ends a completion never comes.
_NEVER = -1


class _Accelerator(OneProcess):
    """What GRPO asks of an `Accelerator` beside."""

    process_index, num_processes, is_main_process, sync_gradients = 0, 1, True, True
    state = SimpleNamespace(deepspeed_plugin=None, fsdp_plugin=None)

    def __init__(self, device: torch.device, dtype: torch.dtype | None) -> None:
        super().__init__(device)
        self.dtype = dtype

    def autocast(self) -> AbstractContextManager[Any]:
        """As in life: around the model's own, which does the same."""
        return torch.autocast(self.device.type, dtype=self.dtype) if self.dtype else nullcontext()

    @staticmethod
    def reduce(values: torch.Tensor, **_: Any) -> torch.Tensor:
        """The sum over one process."""
        return values


class _Words:
    """A tokenizer that writes nothing down."""

    pad_token_id, bos_token_id = 0, 1

    @staticmethod
    def batch_decode(ids: list[Any], **_: Any) -> list[str]:
        """No words for any completion."""
        return [""] * len(ids)


def _worth_the_same(prompts: list[Any], **_: Any) -> list[float]:
    """A reward function."""
    return [0.0] * len(prompts)


def grpo(model: Any, reference: Any, recipe: Recipe, device: torch.device) -> Callable[[], StepLoss]:
    """One micro-batch of GRPO: generation where it is due, then the loss.

    transformers/trainer.py training_step; the trainer divides its loss itself.
    """
    trainer = _trainer(model, reference, recipe, device)
    prompts = [{"prompt": ""} for _ in range(recipe.batch * recipe.steps_of_generation)]

    def loss_of() -> StepLoss:
        inputs = trainer._prepare_inputs(prompts)
        loss = trainer.compute_loss(model, inputs)
        trainer._step += 1
        return StepLoss(loss)

    return loss_of


def _trainer(model: Any, reference: Any, recipe: Recipe, device: torch.device) -> Any:
    """trl 1.16 trainer/grpo_trainer.py GRPOTrainer.__init__, with grpo_config.py's defaults."""
    from transformers import GenerationConfig  # noqa: PLC0415  # takes a second: only where it is used
    from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: PLC0415  # the same

    trainer = GRPOTrainer.__new__(GRPOTrainer)
    training, length, words = recipe.training, recipe.completion, _Words()
    checkpointing = {"use_reentrant": training.use_reentrant}
    generation = {
        "max_new_tokens": length, "do_sample": True, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": [_NEVER],
        "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0,
        "cache_implementation": None,
    }  # fmt: skip
    prompts = _prompts(recipe)
    accelerator = _Accelerator(device, torch_dtype(recipe.autocast) if recipe.autocast else None)
    vars(trainer).update(
        model=model, model_wrapped=model, ref_model=reference, accelerator=accelerator,
        args=SimpleNamespace(
            device=device, gradient_checkpointing_kwargs=checkpointing, delta=None, use_bias_correction_kl=False,
            report_to=[], steps_per_generation=recipe.steps_of_generation, ds3_gather_for_generation=True,
            per_device_train_batch_size=recipe.batch, past_index=-1, bf16=recipe.autocast == "bfloat16",
            gradient_accumulation_steps=training.gradient_accumulation_steps,
        ),
        state=SimpleNamespace(global_step=0, num_input_tokens_seen=0),
        processing_class=words, _tokenizer=words, _is_vlm=False, eos_token_ids=[_NEVER], pad_to_multiple_of=None,
        generation_config=GenerationConfig(**generation, disable_compile=True), generation_kwargs=generation,
        _dist=SimpleNamespace(summon_full_params=lambda *_, **__: nullcontext()),
        _tokenize_prompts=lambda texts: ([prompts[index % len(prompts)] for index in range(len(texts))], None, {}),
        rollout_func=None, tools=[], environments=None, environment_factories=None,
        num_iterations=training.num_iterations,
        reward_funcs=[_worth_the_same], reward_func_names=["same"], reward_processing_classes=[None],
        reward_weights=torch.ones(1), multi_objective_aggregation="sum_then_normalize", scale_rewards="group",
        num_generations=recipe.batch * recipe.steps_of_generation, max_completion_length=length, beta=training.beta,
        loss_type="dapo", importance_sampling_level="token", epsilon_low=0.2, epsilon_high=0.2,
        off_policy_mask_threshold=None, top_entropy_quantile=1.0, mask_truncated_completions=False,
        use_vllm=False, vllm_importance_sampling_correction=False, use_transformers_continuous_batching=False,
        _entropy_bonus_enabled=False, aux_loss_enabled=False, log_multimodal=False,
        current_gradient_accumulation_steps=training.gradient_accumulation_steps,
        _step=0, _buffered_inputs=None, chat_template_kwargs={}, is_deepspeed_enabled=False,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _logs={"prompt": [], "completion": [], "rewards": defaultdict(list), "advantages": [],
               "extra": defaultdict(list)},
        _pending_extra_logs=defaultdict(list), _pending_metrics=defaultdict(list), chat_template=None,
    )  # fmt: skip
    return trainer


def _prompts(recipe: Recipe) -> list[list[int]]:
    """Ids of each sequence's prompt; of a padded batch every second one is a token short."""
    most = recipe.length - recipe.completion
    return [[2] * max(1, most - (recipe.length - kept)) for kept in recipe.kept_tokens]
