"""Axolotl YAML.

Keys and defaults as read in https://github.com/axolotl-ai-cloud/axolotl, src/axolotl/utils/schemas: `training.py`
(micro_batch_size 1, gradient_accumulation_steps 1, optimizer adamw_torch_fused), `config.py` (sequence_len 512,
gradient_checkpointing false, bf16 auto, LoRA kernels on by themselves) and `peft.py` (no default rank, lora_dropout 0,
what `adapter` goes with). What is built from them: src/axolotl/utils/config/__init__.py (torch_dtype),
loaders/model.py (quantization; prepare_model_for_kbit_training, then norms and embeddings back to torch_dtype),
loaders/adapter.py (targets), core/builders/base.py (use_reentrant false).
"""

from typing import Any

from app.imports.adapters.linear_targets import stacks_experts
from app.imports.adapters.options import adapter_options
from app.imports.attention import put_attention
from app.imports.dialects.axolotl_edits import write_accumulation, write_bnb, write_four_bits, write_method
from app.imports.dialects.axolotl_objectives import read_objective
from app.imports.dialects.axolotl_targets import put_targets
from app.imports.effects import LESS, ONE_CARD, PREFERENCES, VLLM, VLLM_SHARE, Effect, card_share
from app.imports.fake_quantization import read_qat
from app.imports.ignored_keys import ignored_keys
from app.imports.liger import AXOLOTL as LIGER
from app.imports.liger import put_axolotl_kernels
from app.imports.low_rank import read_low_rank
from app.imports.numbers import as_number
from app.imports.precision import Dtypes, put_stack
from app.imports.rules import Reading, Rule, Trainer, listed, looked_up, words
from planner.request.objective import WITH_REFERENCE

_ATTENTION = {
    "flash_attention": "flash_attention_2", "sdp_attention": "sdpa", "eager_attention": "eager",
    "xformers_attention": "xformers", "flex_attention": "flex_attention", "sage_attention": "sage_attention",
}  # fmt: skip
# Whose tensors Axolotl turns to 16 bit (loaders/model.py): the kernels that take nothing wider.
_TAKES_16_BIT = {"flash_attention", "flex_attention", "sage_attention", "xformers_attention"}
_OPTIMIZERS = {"ao_adamw_8bit": "adamw_torch_8bit", "ao_adamw_4bit": "adamw_torch_4bit", "adamw_hf": "adamw_torch"}
# Plugins that do nothing but what their own keys say, and those that only report or evaluate afterwards.
_PLUGINS = {"CutCrossEntropyPlugin", "LigerPlugin", "SwanLabPlugin", "LMEvalPlugin"}
_PLUGIN = Effect("a plugin that Fitproof does not know, so that it may move memory")
# What of BitsAndBytesConfig the request has under the same name.
_BNB_AS_THEY_ARE = {"llm_int8_skip_modules", "bnb_4bit_quant_storage"}
_BNB_4BIT = {"bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype"}
_BNB_MORE = Effect("what bitsandbytes does with it has no formula here", "with bitsandbytes' defaults", saves=True)
_HALVES = ("bf16", "fp16", "bfloat16", "float16")


def _optimizer(value: Any) -> Any:
    return looked_up(_OPTIMIZERS, value) or value


def _checkpointing(value: Any) -> Any:
    # "unsloth", "offload" and "offload_disk" checkpoint too, and move the checkpoints elsewhere; settle() says so.
    return True if isinstance(value, str) else value


def _settle(reading: Reading) -> None:
    config = reading.config
    dtype, autocast = _dtype(reading)
    _method(reading, dtype)
    objective = read_objective(reading)
    put_targets(reading)
    _attention(reading)
    _stack(reading, dtype, autocast, objective)
    _batches(reading)
    if isinstance(config.get("gradient_checkpointing"), str):
        why = "planned as plain checkpointing, on the card"
        reading.leave_out("gradient_checkpointing", Effect(why, "with plain checkpointing", saves=True))
    reading.use_reentrant("gradient_checkpointing_kwargs")
    _losses(reading, objective)
    _plugins(reading)
    if objective != "grpo":
        _online(reading)
    batch, evaluated = config.get("micro_batch_size") or 1, config.get("eval_batch_size")
    reading.evaluates("eval_batch_size", evaluated, batch, planned=not config.get("rl"))
    reading.assume("training.per_device_train_batch_size", 1, "Axolotl's default micro_batch_size")
    reading.assume("training.gradient_checkpointing", False, "Axolotl checkpoints only when told to")
    reading.assume("training.optim", "adamw_torch_fused", "Axolotl's default optimizer")
    read_low_rank(reading)
    read_qat(reading)
    reading.assume("training.max_length", 512, "Axolotl's default sequence_len")


def _dtype(reading: Reading) -> tuple[str, str | None]:
    """`torch_dtype` and what Trainer autocasts to, as normalize_config and the builder find them; bf16 wins."""
    config = reading.config
    bf16 = config.get("bf16", "auto")
    if reading.on("fp16") and bf16 is True:
        reading.contradict("fp16", "bf16: true as well, and Axolotl then ignores fp16; keep one")
    if bf16 not in (None, True, False, "auto", "full"):
        reading.contradict("bf16", f"must be true, false, auto or full; got {str(bf16)[:40]!r}")
    if bf16 or reading.on("bfloat16"):
        return "bfloat16", None if bf16 == "full" else "bfloat16"
    if reading.on("fp16"):
        return "float16", "float16"
    half = reading.on("float16") or reading.on("load_in_8bit")
    return "float16" if half else "float32", None


def _method(reading: Reading, dtype: str) -> None:
    config = reading.config
    four, eight = reading.on("load_in_4bit"), reading.on("load_in_8bit")
    adapter = config.get("adapter")
    if four and eight:
        reading.contradict("load_in_8bit", "load_in_4bit is true as well; keep one")
    if adapter == "qlora" and not four:
        reading.contradict("adapter", "qlora needs load_in_4bit: true, and Axolotl refuses it otherwise")
    if adapter not in (None, "", "lora", "qlora"):
        reading.contradict("adapter", f"{adapter} is not planned; lora and qlora are")
    if not adapter and (four or eight):
        reading.contradict("adapter", "missing; quantized weights cannot be trained without one")
    if adapter == "lora" and four and not eight:
        # loaders/model.py makes a quantization config for qlora with 4 bits and for lora with 8, and for nothing else.
        reading.contradict("load_in_4bit", "has no effect with adapter: lora, nothing is quantized; say adapter: qlora")
    quantized = adapter == "qlora" or eight or (four and adapter != "lora")
    reading.use("adapter", "method", "qlora" if quantized else "lora" if adapter else "full")
    if not quantized:
        return
    reading.use("load_in_8bit" if eight and not four else "load_in_4bit", "quantization", {})
    if eight and not four:
        reading.put("quantization.load_in_8bit", True)
        _bnb_config(reading)
        return
    # Axolotl's own bnb_config, and what the file changes in it.
    kwargs = _bnb_config(reading)
    reading.put("quantization.load_in_4bit", True)
    reading.put("quantization.bnb_4bit_quant_type", kwargs.get("bnb_4bit_quant_type", "nf4"))
    reading.put("quantization.bnb_4bit_use_double_quant", kwargs.get("bnb_4bit_use_double_quant", True))
    said = kwargs.get("bnb_4bit_compute_dtype", dtype)
    key = next((name for name in ("bnb_config_kwargs", *_HALVES) if config.get(name)), None)
    if key:
        reading.use(key, "quantization.bnb_4bit_compute_dtype", said)
    reading.assume("quantization.bnb_4bit_compute_dtype", said, "Axolotl's default is bf16: auto")


def _bnb_config(reading: Reading) -> dict[str, Any]:
    """What the file says in `bnb_config_kwargs`: put where the request has it too, otherwise left out."""
    given = reading.config.get("bnb_config_kwargs")
    kwargs = given if isinstance(given, dict) else {}
    for name in _BNB_AS_THEY_ARE & kwargs.keys():
        reading.use("bnb_config_kwargs", f"quantization.{name}", kwargs[name])
    if given and (kwargs.keys() - _BNB_AS_THEY_ARE - _BNB_4BIT or kwargs is not given):
        reading.leave_out("bnb_config_kwargs", _BNB_MORE)
    return kwargs


def _losses(reading: Reading, objective: str) -> None:
    """Liger's kernels, its fused loss, Cut Cross-Entropy by its switch or its plugin, whose switch is on by itself."""
    config = reading.config
    plugin = "cut_cross_entropy" in str(config.get("plugins"))
    cut = reading.on("cut_cross_entropy") if "cut_cross_entropy" in config else plugin
    if objective != "sft":
        for key in filter(reading.on, (*LIGER, "liger_fused_linear_cross_entropy", "cut_cross_entropy")):
            reading.leave_out(key, LESS)
        return
    if reading.on("liger_fused_linear_cross_entropy"):
        if cut:
            reading.contradict("cut_cross_entropy", "liger_fused_linear_cross_entropy: true as well; keep one")
        reading.use("liger_fused_linear_cross_entropy", "training.loss", "liger")
    elif cut:
        key = "cut_cross_entropy" if config.get("cut_cross_entropy") else "plugins"
        reading.use(key, "training.loss", "cut_cross_entropy")
    put_axolotl_kernels(reading)


def _plugins(reading: Reading) -> None:
    """Plugins by the last part of their names; the switches of those known are keys of their own."""
    given = reading.config.get("plugins")
    names = given if isinstance(given, list) else [given] if given else []
    if any(str(name).rpartition(".")[2] not in _PLUGINS for name in names):
        reading.leave_out("plugins", _PLUGIN)


def _online(reading: Reading) -> None:
    """Online training that is not planned, and vLLM where it generates in this process."""
    config = reading.config
    inner = config.get("trl")
    if isinstance(inner, dict) and inner:
        reading.leave_out("trl", PREFERENCES)
    if isinstance(inner, dict) and inner.get("use_vllm") is True and inner.get("vllm_mode") == "colocate":
        given = config.get("vllm")
        share = given.get("gpu_memory_utilization") if isinstance(given, dict) else None
        reading.leave_out("vllm", VLLM, least=card_share(share or inner.get("vllm_gpu_memory_utilization", VLLM_SHARE)))
    elif config.get("vllm"):
        reading.leave_out("vllm", ONE_CARD)


def _attention(reading: Reading) -> None:
    on = [key for key in _ATTENTION if reading.on(key)]
    for key in on[1:]:
        reading.contradict(key, f"{on[0]}: true as well; keep one")
    if said := reading.config.get("attn_implementation"):
        put_attention(reading, "attn_implementation", said)
    elif on:
        put_attention(reading, on[0], _ATTENTION[on[0]])


def _stack(reading: Reading, dtype: str, autocast: str | None, objective: str) -> None:
    config = reading.config
    adapters = dtype if config.get("peft_autocast_adapter_dtype") is False else "float32"
    if objective in WITH_REFERENCE and reading.document["method"] == "qlora":
        adapters = "bfloat16"  # as TRL casts them where it wraps the model
    model = dtype
    if config.get("adapter") == "lora" and reading.document["method"] == "lora" and reading.on("load_in_4bit"):
        # prepare_model_for_kbit_training runs all the same, and turns every weight to float32.
        model = "float32"
    takes_16 = any(map(reading.on, _TAKES_16_BIT)) or str(config.get("attn_implementation") or "sdpa") not in {
        "sdpa",
        "eager",
    }
    if reading.document["method"] == "full" and not takes_16:
        key = next((name for name in ("attn_implementation", *_ATTENTION) if config.get(name)), "attn_implementation")
        why = "without a 16-bit attention kernel norms and embeddings stay in float32; planned in 16 bit"
        reading.leave_out(key, Effect(why, "with norms and embeddings in 16 bit"))
    if reading.document["method"] == "qlora" and stacks_experts(config.get("base_model")):
        if reading.on("quantize_moe_experts"):
            return reading.assume("stack", "trainer", "Axolotl quantizes the experts, too")
        # prepare_model_for_kbit_training turns what bitsandbytes left to float32, the stacked experts among it.
        return reading.assume("stack", "kbit", "Axolotl prepares quantized models: stacked experts turn to float32")
    said = next((f"{key} in the file" for key in _HALVES if config.get(key)), "")
    reason = said or ("Axolotl's default is bf16: auto" if autocast else "neither bf16 nor fp16: no autocast")
    put_stack(reading, "trainer", Dtypes(model, autocast, adapters), reason)
    return None


def _batches(reading: Reading) -> None:
    config = reading.config
    total, micro = config.get("batch_size"), config.get("micro_batch_size") or 1
    if total and config.get("gradient_accumulation_steps"):
        reading.contradict("batch_size", "gradient_accumulation_steps as well; keep one")
    elif isinstance(total, int) and isinstance(micro, int) and micro > 0:
        reading.use("batch_size", "training.gradient_accumulation_steps", max(1, total // micro))
    if not config.get("sample_packing") and not config.get("batch_flattening"):
        reading.pads("sample_packing")
    elif reading.on("sample_packing") and _joins_rows(reading):
        reading.use("sample_packing", "training.packing", True)


def _joins_rows(reading: Reading) -> bool:
    """Whether a packed batch is one row without a mask (core/builders/base.py, sample_packing_drop_attention_mask and
    multipack_real_batches): where FlashAttention is told of the documents' borders.
    """
    flash = reading.get("training.attn_implementation") == "flash_attention_2"
    return flash and reading.get("training.objective") is None and not reading.on("multipack_real_batches")


AXOLOTL = Trainer(
    id="axolotl",
    name="Axolotl",
    signature=words(
        "base_model micro_batch_size sequence_len adapter lora_target_linear sample_packing datasets val_set_size"
    ),
    rules=(
        Rule("neftune_noise_alpha", "training.neftune_noise_alpha", as_number),
        Rule("noisy_embedding_alpha", "training.neftune_noise_alpha", as_number),
        Rule("base_model", "model"),
        Rule("sequence_len", "training.max_length"),
        Rule("micro_batch_size", "training.per_device_train_batch_size"),
        Rule("gradient_accumulation_steps", "training.gradient_accumulation_steps"),
        Rule("gradient_checkpointing", "training.gradient_checkpointing", _checkpointing),
        Rule("optimizer", "training.optim", _optimizer),
        Rule("max_grad_norm", "training.max_grad_norm"),
        Rule("lora_r", "lora.r"),
        Rule("lora_alpha", "lora.lora_alpha"),
        Rule("lora_dropout", "lora.lora_dropout"),
        Rule("lora_target_modules", "lora.target_modules"),
        Rule("lora_modules_to_save", "lora.modules_to_save", listed),
        *adapter_options(
            rank_pattern="lora_rank_pattern", alpha_pattern="lora_alpha_pattern",
            init_lora_weights="peft_init_lora_weights", layers_to_transform="peft_layers_to_transform",
            layers_pattern="peft_layers_pattern", target_parameters="lora_target_parameters",
            trainable_token_indices="peft_trainable_token_indices",  # noqa: S106  # tokens of a vocabulary
        ),
        Rule("peft_ensure_weight_tying", "lora.ensure_weight_tying"),
        Rule("peft_use_dora", "lora.use_dora"),
        Rule("peft_use_rslora", "lora.use_rslora"),
    ),
    settle=_settle,
    handled=words(
        "adapter load_in_4bit load_in_8bit bnb_config_kwargs lora_target_linear flash_attention sdp_attention "
        "eager_attention xformers_attention flex_attention sage_attention attn_implementation bf16 fp16 bfloat16 "
        "float16 gradient_checkpointing_kwargs plugins cut_cross_entropy liger_fused_linear_cross_entropy liger_rope "
        "liger_rms_norm liger_glu_activation rl rl_adapter_ref_model trl vllm eval_batch_size sample_packing "
        "pad_to_sequence_len batch_size "
        "batch_flattening peft_autocast_adapter_dtype optim_args optim_target_modules qat"
    ),
    ignored=ignored_keys("axolotl"),
    rewrites={
        "method": write_method,
        "training.gradient_accumulation_steps": write_accumulation,
        "quantization.load_in_4bit": write_four_bits,
        "quantization.bnb_4bit_quant_type": write_bnb("bnb_4bit_quant_type", "nf4"),
        "quantization.bnb_4bit_use_double_quant": write_bnb("bnb_4bit_use_double_quant", True),
        "quantization.bnb_4bit_compute_dtype": write_bnb("bnb_4bit_compute_dtype", "bfloat16"),
    },
    edits=(
        Rule("load_in_8bit", "quantization.load_in_8bit"),
        Rule("liger_fused_linear_cross_entropy", "training.loss", write=lambda loss: loss == "liger"),
        Rule("attn_implementation", "training.attn_implementation"),
    ),
)
