"""The optimizers that TrainingArguments names, and Muon, which trainers have beside them: what each keeps per trained
tensor, and why some are not planned.

Names: transformers 5.23, training_args.py OptimizerNames, all of them. Who builds what: trainer_optimizer.py.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Optimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_torch_4bit", "adamw_torch_8bit", "adamw_8bit", "adamw_bnb_8bit",
    "paged_adamw_8bit", "paged_adamw_32bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit",
    "paged_ademamix_8bit", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "rmsprop", "rmsprop_bnb",
    "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "adagrad", "adafactor", "sgd", "schedule_free_adamw",
    "schedule_free_radam", "schedule_free_sgd", "galore_adamw", "galore_adamw_8bit", "galore_adafactor", "apollo_adamw",
    "muon",
]  # fmt: skip
# How buffers are stored: in the parameter's dtype, as bitsandbytes or torchao do, as row and column means, or one for
# matrices and two for the rest.
Storage = Literal["own", "bnb_32bit", "bnb_8bit", "torchao_8bit", "torchao_4bit", "factored", "orthogonalized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one optimizer keeps. `buffers`: each one's size in elements of the tensor; `paged`: the driver may move it.

    `foreach_copies`: copies of all trained tensors, in their dtype, that one step makes at once.
    `low_rank`: of some linear layers it keeps moments of projected gradients (planner/tensors/low_rank.py).
    """

    buffers: tuple[int, ...]
    storage: Storage
    source: str
    paged: bool = False
    foreach_copies: int = 0
    step_on_card: bool = False
    low_rank: bool = False

    @property
    def in_8bit_by_bitsandbytes(self) -> bool:
        """Whether Trainer keeps embeddings out of it (transformers/trainer.py, create_optimizer).

        It asks whether the optimizer's class is of bitsandbytes, which GaLore's is not.
        """
        return self.storage == "bnb_8bit" and not self.low_rank


_BNB = "bitsandbytes/optim/optimizer.py init_state, get_state_buffer"
_MIX = "bitsandbytes/optim/ademamix.py init_state: the fast and the slow mean in one buffer"
_AO = "torchao/optim/adam.py _new_buffer, subclass_8bit.py, subclass_4bit.py; block_size 256 from trainer_optimizer.py"
_FREE = "schedulefree/{}_schedulefree.py step"
_GALORE = "galore_torch 1.0 {}.py, galore_projector.py"


def _bnb(*buffers: int, bits: Literal[8, 32], paged: bool = False, source: str = _BNB) -> Kept:
    return Kept(buffers=buffers, storage="bnb_8bit" if bits == 8 else "bnb_32bit", paged=paged, source=source)


KEPT: dict[Optimizer, Kept] = {
    "adamw_torch": Kept(
        buffers=(1, 1), storage="own", foreach_copies=1,
        source="torch/optim/adam.py: exp_avg, exp_avg_sq in the parameter's dtype, step on the CPU",
    ),
    "adamw_torch_fused": Kept(
        buffers=(1, 1), storage="own", step_on_card=True,
        source="torch/optim/adam.py: exp_avg, exp_avg_sq in the parameter's dtype, step on the card",
    ),
    "adamw_torch_4bit": Kept(buffers=(1, 1), storage="torchao_4bit", source=_AO),
    "adamw_torch_8bit": Kept(buffers=(1, 1), storage="torchao_8bit", source=_AO),
    "adamw_8bit": _bnb(1, 1, bits=8),
    "adamw_bnb_8bit": _bnb(1, 1, bits=8),
    "paged_adamw_8bit": _bnb(1, 1, bits=8, paged=True),
    "paged_adamw_32bit": _bnb(1, 1, bits=32, paged=True),
    "ademamix": _bnb(2, 1, bits=32, source=_MIX),
    "ademamix_8bit": _bnb(2, 1, bits=8, source=_MIX),
    "paged_ademamix_32bit": _bnb(2, 1, bits=32, paged=True, source=_MIX),
    "paged_ademamix_8bit": _bnb(2, 1, bits=8, paged=True, source=_MIX),
    "lion_32bit": _bnb(1, bits=32),
    "lion_8bit": _bnb(1, bits=8),
    "paged_lion_32bit": _bnb(1, bits=32, paged=True),
    "paged_lion_8bit": _bnb(1, bits=8, paged=True),
    "rmsprop": Kept(
        buffers=(1,), storage="own", foreach_copies=1,
        source="torch/optim/rmsprop.py without momentum: square_avg; _multi_tensor_rmsprop takes its root",
    ),
    "rmsprop_bnb": _bnb(1, bits=32),
    "rmsprop_bnb_8bit": _bnb(1, bits=8),
    "rmsprop_bnb_32bit": _bnb(1, bits=32),
    "adagrad": Kept(
        buffers=(1,), storage="own", foreach_copies=2,
        source="torch/optim/adagrad.py: sum; _multi_tensor_adagrad holds its root and the scaled gradients",
    ),
    "adafactor": Kept(
        buffers=(), storage="factored", step_on_card=True,
        source="transformers/optimization.py Adafactor: float32 row and column means of the squared gradient",
    ),
    "sgd": Kept(buffers=(), storage="own", source="torch/optim/sgd.py without momentum: no state"),
    "schedule_free_adamw": Kept(
        buffers=(1, 1), storage="own", foreach_copies=1, source=_FREE.format("adamw") + ": z and exp_avg_sq",
    ),
    "schedule_free_radam": Kept(
        buffers=(1, 1), storage="own", foreach_copies=1, source=_FREE.format("radam") + ": z and exp_avg_sq",
    ),
    "schedule_free_sgd": Kept(buffers=(1,), storage="own", source=_FREE.format("sgd") + ": z"),
    "galore_adamw": Kept(buffers=(1, 1), storage="own", low_rank=True, source=_GALORE.format("adamw")),
    "galore_adamw_8bit": Kept(buffers=(1, 1), storage="bnb_8bit", low_rank=True, source=_GALORE.format("adamw8bit")),
    "galore_adafactor": Kept(
        buffers=(), storage="factored", step_on_card=True, low_rank=True, source=_GALORE.format("adafactor"),
    ),
    "apollo_adamw": Kept(
        buffers=(1, 1), storage="own", low_rank=True,
        source="apollo_torch 1.0.3 apollo.py, random_projector.py, svd_projector.py",
    ),
    # Trainers' own, and no name of TrainingArguments: LLaMA-Factory's use_muon, Axolotl's optimizer: muon.
    "muon": Kept(
        buffers=(1,), storage="orthogonalized",
        source="llamafactory/third_party/muon/muon.py: momentum_buffer of matrices, moment1 and moment2 of the rest",
    ),
}  # fmt: skip

_LAYERWISE = (
    "steps inside the backward pass, parameter by parameter, and keeps no whole gradient; there is no formula for that "
    "here: {} has the same states"
)
_BACKWARD = "updates weights inside the backward pass and keeps no whole gradient; there is no formula for that here"
NOT_PLANNED: dict[str, str] = {
    "adamw_torch_xla": "runs on a TPU",
    "adamw_torch_npu_fused": "runs on an NPU",
    "adamw_anyprecision": "comes from torchdistx, which no longer installs beside today's torch; use adamw_torch",
    **{
        f"{name}_layerwise": _LAYERWISE.format(name)
        for name in ("galore_adamw", "galore_adamw_8bit", "apollo_adamw")
    },
    "galore_adafactor_layerwise": (
        "is refused by its own class: transformers 5.23 gives it a learning rate beside relative steps "
        "(trainer_optimizer.py, _get_galore_optimizer); galore_adafactor has the same states"
    ),
    "lomo": _BACKWARD,
    "adalomo": _BACKWARD,
    "grokadamw": "keeps averages of gradients beside AdamW's moments that no formula here counts",
    "stable_adamw": "keeps compensation buffers for 16-bit weights that no formula here counts; adamw_torch is nearest",
}  # fmt: skip
_OWN = "is a trainer's own, and no name of TrainingArguments: it {}; a dry run of the script itself plays it"
# What Axolotl and LLaMA-Factory have beside TrainingArguments' (axolotl 0.19 utils/schemas/enums.py,
# CustomSupportedOptimizers).
OF_TRAINERS: dict[str, str] = {
    "dion": _OWN.format("keeps a momentum and low-rank factors of each matrix that no formula here counts"),
    "adopt_adamw": _OWN.format("keeps AdamW's moments, by a step that no formula here follows"),
    "came_pytorch": _OWN.format("keeps row and column means of the gradient and of its residual"),
    "optimi_adamw": _OWN.format("keeps AdamW's moments and compensation buffers that no formula here counts"),
    "ao_adamw_fp8": _OWN.format("keeps moments in 8-bit floats, which no formula here counts"),
    "adam_mini": _OWN.format("keeps one second moment for each block of a matrix"),
}
NAMES: tuple[Optimizer, ...] = get_args(Optimizer)


def checked_optimizer(name: object) -> object:
    """Return `name` unless Trainer, or another trainer, knows it and no formula does.

    Raises:
        ValueError: says why that optimizer is not planned.
    """
    why = {**NOT_PLANNED, **OF_TRAINERS}.get(name) if isinstance(name, str) else None
    if why:
        msg = f"{name} is not planned: it {why}"
        raise ValueError(msg)
    return name
