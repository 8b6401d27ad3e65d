"""TRL's preference and reward trainers that are planned: which one a command names, and what its own keys come to.

Keys and defaults: trl 1.16 trainer/dpo_config.py, kto_config.py, reward_config.py, experimental/orpo/orpo_config.py
and cpo.
"""

import re
from collections.abc import Mapping
from typing import Any

from app.imports.dialects.trl_grpo import read_grpo
from app.imports.effects import LESS, PREFERENCES, SFT, Effect
from app.imports.rules import Ignored, Reading, words
from planner.answer.not_planned import FrozenCopy
from planner.request.objective import BY_ALL_LOGITS, PAIRED

# `trl dpo`, `python examples/scripts/kto.py`; online_dpo.py and dpo_vlm.py are others.
_NAMED = re.compile(r"(?:^|[\s/])(dpo|kto|orpo|cpo|reward)(?:_modell?ing)?(?:\.py)?(?:\s|$)")
# The same of GRPO; `python -m trl.scripts.grpo` is told by its module.
_GRPO = re.compile(r"(?:^|[\s/.])grpo(?:\.py)?(?:\s|$)")
# What changes the formula of the loss and no tensor that would show.
_NO_EFFECT = words(
    "beta center_rewards_coefficient cpo_alpha desirable_weight discopop_tau f_alpha_divergence_coef "
    "f_divergence_type label_smoothing ld_alpha loss_weights max_completion_length max_prompt_length "
    "precompute_ref_batch_size undesirable_weight"
)
_REFERENCES = ("ref_model_name_or_path", "ref_model")
_PRECOMPUTED = "precompute_ref_log_probs"


def read_objective(reading: Reading) -> str:
    """The objective that the command names, with its reference; "sft" where it names none that is planned."""
    config = reading.config
    if _runs_grpo(config):
        if "command" in config:
            reading.use("command", "training.objective", "grpo")
        else:
            reading.assume("training.objective", "grpo", "num_generations is GRPOConfig's")
        read_grpo(reading, config)
        return "grpo"
    found = _NAMED.search(str(config.get("command", "")))
    # ORPO's and CPO's trainers prepare a quantized model by prepare_model_for_kbit_training and cast its adapters to
    # bfloat16: no preset stands for both.
    quantized = reading.on("load_in_4bit") or reading.on("load_in_8bit")
    if not found or (quantized and found[1] in BY_ALL_LOGITS):
        return "sft"
    objective = found[1]
    reading.use("command", "training.objective", objective)
    harmless = [item.key for item in reading.not_planned if item.key in _NO_EFFECT]
    reading.planned_after_all({*harmless, _PRECOMPUTED})
    reading.ignored += [Ignored(key, f"does not move the memory of {objective}") for key in harmless]
    if objective == "reward":
        _read_head(reading)
    if reading.on(_PRECOMPUTED):
        reading.use(_PRECOMPUTED, "training.precompute_ref_log_probs", True)
    for key in _REFERENCES:
        if config.get(key) and config[key] == config.get("model_name_or_path"):
            reading.planned_after_all({key})
            reading.use(key, "training.ref_model", "copy")
    if config.get("loss_type") == "apo_zero_unpaired":
        why = "scores no mismatched completions, as KTO's own loss does; planned with them"
        reading.leave_out("loss_type", Effect(why, "with KTO's own loss", saves=True))
    if reading.on("use_liger_kernel"):
        reading.leave_out("use_liger_kernel", LESS)
    if config.get("cpo_alpha") == 0:
        reading.leave_out("cpo_alpha", Effect("no cross entropy beside; planned with it", "with CPO's own", saves=True))
    if objective in PAIRED:
        reading.assume("training.padded", True, "chosen and rejected differ in length and are padded")
    return objective


def _runs_grpo(config: Mapping[str, Any]) -> bool:
    """A command that says so, or a file of GRPOConfig without one; RLOOConfig has `num_generations`, too."""
    if "command" in config:
        return _GRPO.search(str(config["command"])) is not None
    return "num_generations" in config and not any(str(key).startswith("rloo") for key in config)


def _read_head(reading: Reading) -> None:
    """One label, whatever else is said; PEFT trains the head beside adapters of the task SEQ_CLS."""
    reading.planned_after_all({"lora_task_type", "task_type", "num_labels"})
    for key in ("lora_task_type", "task_type"):
        if str(reading.config.get(key, "")).upper() == "SEQ_CLS":
            reading.ignored.append(Ignored(key, "as planned: its head is trained beside the adapters"))
        elif reading.config.get(key):
            why = "a reward model's adapters are of SEQ_CLS, which trains the head, too; planned so"
            reading.leave_out(key, Effect(why, "with its head trained", saves=True))


def name_the_reference(reading: Reading) -> None:
    """The second model of a preference training that no command names."""
    config = reading.config
    if "beta" in config and "num_generations" not in config:
        reference = FrozenCopy() if reading.document.get("method") == "full" else None
        if config.get("ref_model_name_or_path") or reading.on("reference_free"):
            reference = None
        planned = f"{SFT}, without its reference model"
        reading.not_planned = [item for item in reading.not_planned if item.key != "beta"]
        reading.leave_out("beta", Effect(PREFERENCES.why, planned), least=reference)
