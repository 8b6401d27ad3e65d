"""What GRPO's own keys come to, of TRL's GRPOConfig (trl 1.16 trainer/grpo_config.py) and of Axolotl's `trl` section.

The completions of an optimizer step are generated together and trained on by micro-batches; so many prompts share them
moves no memory. Prompts have no limit of their own since TRL 1.0; older files have `max_prompt_length`.
"""

from collections.abc import Mapping
from typing import Any

from app.imports.effects import PREFERENCES, VLLM_SHARE, Effect
from app.imports.rules import Ignored, Reading, words
from planner.request.generation import COMPLETION_TOKENS

# Where the file does not limit prompts: a choice, which the answer names.
_PROMPT_TOKENS = 512
_NO_EFFECT = words(
    "delta ds3_gather_for_generation entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min entropy_target "
    "epsilon epsilon_high importance_sampling_level log_completions log_completions_hub_repo log_unique_prompts "
    "loss_type mask_truncated_completions multi_objective_aggregation num_completions_to_print "
    "off_policy_mask_threshold reward_funcs reward_weights sapo_temperature_neg sapo_temperature_pos scale_rewards "
    "top_entropy_quantile use_adaptive_entropy use_bias_correction_kl vespo_k_neg vespo_k_pos vespo_lambda_neg "
    "vespo_lambda_pos vllm_importance_sampling_cap vllm_importance_sampling_clip_max "
    "vllm_importance_sampling_clip_min vllm_importance_sampling_mode vllm_max_model_length vllm_model_impl "
    "vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout vllm_structured_outputs_regex"
)
_FIELDS = {
    "max_completion_length": "max_completion_length", "num_generations": "num_generations",
    "steps_per_generation": "steps_per_generation", "num_iterations": "num_iterations", "beta": "beta",
}  # fmt: skip
# Values with which transformers changes no scores before it draws; others make a copy of them, or two.
_DRAWS_AS_IT_IS = {"temperature": 1, "top_p": 1, "top_k": 0, "repetition_penalty": 1, "min_p": 0}
_FILTERED = Effect("filters the scores that tokens are drawn from; planned without the copies", "without score filters")
_BESIDE = Effect("is not in the plan of GRPO's step", saves=True)
_SLEEPS = Effect("vLLM gives its share back while the model trains; planned as held", "with vLLM awake", saves=True)


def read_grpo(reading: Reading, given: Mapping[str, Any], *, section: str = "") -> None:
    """Put what `given` says of generation into the request. With a `section` its keys are inside that one.

    What is not planned is left out by name: reward models on the card, continuous batching, a synchronized reference.
    """
    beside = [item.key for item in reading.not_planned if item.why == PREFERENCES.why]
    reading.planned_after_all(beside)

    def use(key: str, field: str, value: Any) -> None:
        reading.use(section or key, f"training.{field}", value)

    for key, value in given.items():
        if value is None:
            continue
        if key in _FIELDS:
            use(key, _FIELDS[key], float(value) if key == "beta" and isinstance(value, int) else value)
        elif key in _DRAWS_AS_IT_IS:
            if value != _DRAWS_AS_IT_IS[key]:
                reading.leave_out(section or key, _FILTERED)
        elif key in _NO_EFFECT:
            reading.ignored.append(Ignored(section or key, f"{key} does not move the memory of grpo"))
        elif (section or key in beside) and key not in _READ and value is not False:
            reading.leave_out(section or key, _BESIDE)
    _generation_batch(reading, given, section or "generation_batch_size")
    _lengths(reading, given, section or "max_prompt_length")
    _vllm(reading, given, section)


_READ = words(
    "max_prompt_length generation_batch_size use_vllm vllm_mode vllm_gpu_memory_utilization vllm_tensor_parallel_size "
    "vllm_enable_sleep_mode vllm_importance_sampling_correction"
)


def _generation_batch(reading: Reading, given: Mapping[str, Any], key: str) -> None:
    """The other way to say how many completions are generated together: all of them, not in micro-batches."""
    total, batch = given.get("generation_batch_size"), reading.get("training.per_device_train_batch_size") or 8
    if not isinstance(total, int) or not isinstance(batch, int) or batch < 1:
        return
    if given.get("steps_per_generation"):
        reading.contradict(key, "steps_per_generation as well; keep one")
    elif total % batch:
        reading.contradict(key, f"must be a multiple of the {batch} completions that are trained on at a time")
    else:
        reading.use(key, "training.steps_per_generation", total // batch)


def _lengths(reading: Reading, given: Mapping[str, Any], key: str) -> None:
    """`max_length` is the prompt and the completion."""
    completion = given.get("max_completion_length") or COMPLETION_TOKENS
    prompt = given.get("max_prompt_length")
    whole = reading.get("training.max_length")
    if not isinstance(completion, int):
        return
    reading.assume("training.max_completion_length", COMPLETION_TOKENS, "GRPOConfig's default")
    if isinstance(prompt, int) and not isinstance(prompt, bool):
        reading.use(key, "training.max_length", prompt + completion)
    elif not isinstance(whole, int) or whole <= completion:
        reading.put("training.max_length", None)
        reason = f"prompts have no limit in the file: planned as {_PROMPT_TOKENS} tokens before the completion"
        reading.assume("training.max_length", _PROMPT_TOKENS + completion, reason)


def _vllm(reading: Reading, given: Mapping[str, Any], section: str) -> None:
    """In this process it takes its share of the card; as a server it is another one's, planned as no share."""
    if given.get("use_vllm") is not True:
        return
    share = given.get("vllm_gpu_memory_utilization", VLLM_SHARE)
    if given.get("vllm_mode", "colocate") != "colocate":
        share = 0.0
    reading.use(section or "use_vllm", "training.vllm_gpu_memory_utilization", share)
    if given.get("vllm_enable_sleep_mode"):
        reading.leave_out(section or "vllm_enable_sleep_mode", _SLEEPS)
