"""Options of SFTConfig and `TrainingArguments` that move bytes: how a batch is laid out, and evaluation between steps.

Source: trl 1.16 trainer/sft_config.py and sft_trainer.py SFTTrainer.__init__ ("Data collator"); transformers 5.23
training_args.py.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt

from planner.request.base import Frozen
from planner.request.objective import ObjectiveFields


class LigerKernels(Frozen):
    """Liger's kernels one by one, as `liger_kernel_config` names them; defaults of apply_liger_kernel_to_llama.

    Its fused_linear_cross_entropy is `loss` "liger". Source: liger-kernel 0.8.5 transformers/monkey_patch.py.
    """

    rope: StrictBool = True
    rms_norm: StrictBool = True
    swiglu: StrictBool = True
    cross_entropy: StrictBool = False


def _named_kernels(value: object) -> object:
    """`rope,swiglu`: those are on and no others."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    return dict.fromkeys(LigerKernels.model_fields, False) | dict.fromkeys(names, True)


class Qat(Frozen):
    """Quantization-aware training of every weight, in Axolotl's words (torchao 0.18 quantization/qat/api.py QATConfig).

    Weights in symmetric groups of `group_size` inputs, and each token's activations, are rounded to integers.

    Each `nn.Linear` is prepared so, the head's among them: torchao's Int8DynamicActivationInt4WeightConfig.
    """

    weight_dtype: Literal["int4"] = "int4"
    activation_dtype: Literal["int8"] = "int8"
    group_size: Annotated[StrictInt, Field(ge=2, le=65_536)] = 32


def _named_by_its_group(value: object) -> object:
    """`32`: the group size, on a command line and in a form."""
    return {"group_size": value} if isinstance(value, int) and not isinstance(value, bool) else value


def qat_problem(qat: Qat | None, method: str, *, offloads: bool, objective: str, elsewhere: str) -> str:
    """What keeps it from being planned, with the fix; empty where nothing does.

    `elsewhere`: the section or stack that no dry run has shown it with, if there is one.
    """
    if qat is None:
        return ""
    if method != "full":
        return f"training.qat: planned where every weight is trained, not for {method}; use method full, or drop it"
    if objective != "sft":
        return f"training.qat: planned for sft, not for {objective}; drop it"
    if offloads:
        return "training.qat: not planned with activation_offloading; drop one of them"
    if elsewhere:
        return f"training.qat: planned on one card with transformers' own layers; drop it, or {elsewhere}"
    return ""


class OptionFields(ObjectiveFields):
    """`packing`: documents lie one after another in rows of max_length tokens, and the rows of a batch in one, with
    position ids in place of an attention mask: TRL's strategies bfd and bfd_split, which are padding-free.

    `per_device_eval_batch_size`: sequences that are evaluated at a time between training steps; None evaluates nothing
    (eval_strategy "no"). TrainingArguments' own default, once there is a strategy, is 8.

    `activation_offloading`: what the forward pass saves waits in pinned host memory, by TRL's
    models/activation_offloading.py. The formulas follow it on one card, with checkpointing that is not reentrant.

    `neftune_noise_alpha`: noise on the embedded tokens of training; any value makes the same tensors.

    `liger_kernel_config`: Liger's kernels beside any loss; None has its defaults with `loss` "liger", and none without.

    `qat`: quantization-aware training; its group size alone stands for it, too.
    """

    packing: StrictBool = False
    per_device_eval_batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] | None = None
    activation_offloading: StrictBool = False
    neftune_noise_alpha: Annotated[float, Field(strict=True, ge=0.0, le=1e6)] | None = None
    liger_kernel_config: Annotated[LigerKernels | None, BeforeValidator(_named_kernels)] = None
    qat: Annotated[Qat | None, BeforeValidator(_named_by_its_group)] = None

    def option_problems(self, stack: object, loss: str | None, *, padded: bool) -> Iterator[str]:
        """What of the options the rest of the request excludes, with the field and the fix."""
        if self.packing and padded:
            yield "training.packing: a packed row has no padding; drop it, or padded"
        if self.packing and self.objective != "sft":
            yield f"training.packing: TRL packs for sft, not for {self.objective}; drop it"
        elif self.packing and stack == "unsloth":
            yield "training.packing: Unsloth packs by code of its own, which is not planned; drop it"
        if self.neftune_noise_alpha is not None and stack == "unsloth":
            yield "training.neftune_noise_alpha: not planned with Unsloth, which has a hook of its own; drop it"
        if self.activation_offloading and stack == "unsloth":
            yield "training.activation_offloading: Unsloth offloads by gradient_checkpointing unsloth; drop it"
        elif self.activation_offloading and self.objective not in {"sft", "dpo", "kto", "reward"}:
            yield f"training.activation_offloading: TRL's trainer of {self.objective} knows none; drop it"
        if self.liger_kernel_config and stack == "unsloth":
            yield "training.liger_kernel_config: Unsloth has kernels of its own; drop it"
        elif self.liger_kernel_config and self.objective != "sft":
            yield f"training.liger_kernel_config: planned for sft, not for {self.objective}; drop it"
        if self.liger_kernel_config and self.liger_kernel_config.cross_entropy and loss in {"liger", "chunked"}:
            yield f"training.liger_kernel_config: cross_entropy reads all logits; loss {loss} makes none, drop it"
