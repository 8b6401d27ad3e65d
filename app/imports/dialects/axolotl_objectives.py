"""What Axolotl's `rl` trains for, where it is planned.

As read in https://github.com/axolotl-ai-cloud/axolotl: trainers are TRL's (core/trainers/dpo, core/trainers/trl.py);
loaders/model.py `_load_adapters` hands DPO and KTO the adapter's configuration, so that TRL wraps the model and casts
the adapters of a quantized one to bfloat16; train.py setup_reference_model loads a second model without adapters, or
with `rl_adapter_ref_model`.
"""

from app.imports.dialects.trl_grpo import read_grpo
from app.imports.effects import PREFERENCES, SFT, Effect
from app.imports.rules import Ignored, Reading, looked_up, words
from planner.request.objective import PAIRED, WITH_REFERENCE

# What TRL's trainer is told by other keys moves no tensor that would show.
_OBJECTIVES = {"dpo": "dpo", "ipo": "dpo", "kto": "kto", "orpo": "orpo", "simpo": "cpo"}
_NO_EFFECT = words(
    "cpo_alpha dpo_beta dpo_generate_during_eval dpo_label_smoothing dpo_loss_type dpo_loss_weights dpo_norm_loss "
    "kto_desirable_weight kto_undesirable_weight max_prompt_len orpo_alpha rl_beta rpo_alpha simpo_gamma"
)
_PRECOMPUTED = "precompute_ref_log_probs"


def read_objective(reading: Reading) -> str:
    """The objective that `rl` names, with its reference; "sft" where it names none that is planned."""
    kind = reading.config.get("rl")
    if reading.on("reward_model"):
        return _reward(reading)
    if kind == "grpo":
        return _grpo(reading)
    objective = looked_up(_OBJECTIVES, kind)
    if objective is None:
        if kind not in (None, False, ""):
            planned = f"{SFT}, without {str(kind).upper()}'s second forward"
            reading.leave_out("rl", Effect(PREFERENCES.why, planned))
        return "sft"
    reading.use("rl", "training.objective", objective)
    harmless = [item.key for item in reading.not_planned if item.key in _NO_EFFECT]
    reading.planned_after_all({*harmless, _PRECOMPUTED})
    reading.ignored += [Ignored(key, f"does not move the memory of {objective}") for key in harmless]
    if reading.config.get("cpo_alpha") == 0:
        reading.leave_out("cpo_alpha", Effect("no cross entropy beside; planned with it", "with CPO's own", saves=True))
    if objective not in WITH_REFERENCE:
        reading.assume("training.padded", True, "chosen and rejected differ in length and are padded")
        return str(objective)
    if reading.on(_PRECOMPUTED):
        reading.use(_PRECOMPUTED, "training.precompute_ref_log_probs", True)
    if reading.on("rl_adapter_ref_model"):
        reading.use("rl_adapter_ref_model", "training.ref_model", "copy")
    elif not reading.config.get("adapter"):
        reading.assume("training.ref_model", "copy", "Axolotl loads a second model where there is no adapter")
    if objective in PAIRED:
        reading.assume("training.padded", True, "chosen and rejected differ in length and are padded")
    return str(objective)


def _reward(reading: Reading) -> str:
    """`reward_model: true` is TRL's RewardTrainer (core/builders/causal.py), on `model_type` with one label."""
    if reading.config.get("rl"):
        reading.contradict("rl", "reward_model: true as well; keep one")
    reading.planned_after_all({"reward_model", "center_rewards_coefficient", "num_labels"})
    reading.use("reward_model", "training.objective", "reward")
    if reading.config.get("center_rewards_coefficient"):
        reading.ignored.append(Ignored("center_rewards_coefficient", "does not move the memory of reward"))
    reading.assume("training.padded", True, "chosen and rejected differ in length and are padded")
    return "reward"


def _grpo(reading: Reading) -> str:
    """TRL's GRPOTrainer (core/trainers/grpo); what it is told stands in the sections `trl` and `vllm`."""
    reading.use("rl", "training.objective", "grpo")
    inner, engine = (reading.config.get(name) for name in ("trl", "vllm"))
    given = dict(inner) if isinstance(inner, dict) else {}
    if reading.config.get("rl_beta") is not None:
        given.setdefault("beta", reading.config["rl_beta"])
    if isinstance(engine, dict) and "gpu_memory_utilization" in engine:
        given["vllm_gpu_memory_utilization"] = engine["gpu_memory_utilization"]
    read_grpo(reading, given, section="trl")
    return "grpo"
