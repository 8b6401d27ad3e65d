"""What the request means once every default is filled in: the dtypes and switches the formulas read."""

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from operator import attrgetter

from planner.request.dtypes import Dtype, HalfDtype
from planner.request.layout import ONE_CARD, Layout, layout_of
from planner.request.lora import Lora
from planner.request.objective import BY_FUSED_HEAD, PAIRED, Objective, Reference
from planner.request.parallel import Ddp, DeepSpeed, DeviceMap, Fsdp
from planner.request.schema import CHAPTER_QUANTIZATION, Loss, Quantization, Request, Stack, Training

# A padded batch: every second sequence is this many tokens short. Where padding is left out (flash_attention_2, TRL's
# chunked loss), more of it would save bytes, and nobody can count on that.
PADDED_TOKENS = 1
# Documents in each packed row; FlashAttention 2 takes 128 rows of its workspace more for each further one.
PACKED_DOCUMENTS = 2

# Presets that drive the real Trainer.
BY_TRAINER = frozenset({"trainer", "trl", "kbit", "unsloth"})

DTYPE_BYTES: dict[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training recipe without open questions.

    `autocast` is None for a plain loop. `quantization` is None for LoRA and full fine-tuning, `lora` for full.
    `reference` is the model that scores each batch a second time, or did before the first step.
    `layout` is how it lies on its cards, `strategy` the section that says so, None for a strategy's own defaults.
    """

    method: str
    quantization: Quantization | None
    lora: Lora | None
    training: Training
    model_dtype: Dtype
    compute_dtype: Dtype
    adapter_dtype: Dtype
    autocast: Dtype | None
    kbit_preparation: bool
    outputs_kept: bool
    loss: Loss
    stack_name: str
    objective: Objective = "sft"
    reference: Reference = "none"
    layout: Layout = ONE_CARD
    strategy: Ddp | Fsdp | DeepSpeed | DeviceMap | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """What is kept of a recipe is found by it in a dozen places; its parts would be hashed for each of them."""
        object.__setattr__(self, "_hash", hash(_parts(self)))

    def __hash__(self) -> int:
        return self._hash

    @property
    def batch(self) -> int:
        """Sequences in the micro-batch; an example of a preference is two, the chosen and the rejected one.

        What is packed is one row.
        """
        if self.training.packing:
            return 1
        return self.training.per_device_train_batch_size * (2 if self.objective in PAIRED else 1)

    @property
    def length(self) -> int:
        """Tokens in each sequence, or in the one row of a packed batch."""
        rows = self.training.per_device_train_batch_size if self.training.packing else 1
        return rows * self.training.max_length

    @property
    def tokens(self) -> int:
        """T, tokens in the micro-batch."""
        return self.batch * self.length

    @property
    def kept_tokens(self) -> tuple[int, ...]:
        """Of each sequence of the micro-batch, the tokens that are not padding: every second one ends early."""
        short = max(1, self.length - PADDED_TOKENS) if self.training.padded else self.length
        return tuple(self.length if index % 2 else short for index in range(self.batch))

    @property
    def kept(self) -> int:
        """All of `kept_tokens` together."""
        short = max(1, self.length - PADDED_TOKENS) if self.training.padded else self.length
        return self.batch * self.length - (self.batch + 1) // 2 * (self.length - short)

    @property
    def of_any_size(self) -> "Recipe":
        """The same for every micro-batch and length: what does not depend on them is kept for all."""
        return _of_any_size(self)

    @property
    def documents(self) -> int:
        """Documents in a packed batch: two to a row of max_length tokens, the least at which their borders matter."""
        return PACKED_DOCUMENTS * self.training.per_device_train_batch_size

    @property
    def completion(self) -> int:
        """Of each sequence, the tokens that GRPO's model generates; what is left is the prompt, a token at least."""
        return min(self.training.completion, max(1, self.length - 1))

    @property
    def steps_of_generation(self) -> int:
        """Micro-batches whose examples lie on the card together: those of an optimizer step, or of a generation."""
        steps = self.training.steps_per_generation if self.objective == "grpo" else None
        return steps or self.training.gradient_accumulation_steps

    @property
    def generates(self) -> bool:
        """Whether the step begins with transformers' `generate`."""
        return self.objective == "grpo" and self.training.vllm_gpu_memory_utilization is None

    @property
    def evaluates(self) -> bool:
        """Whether evaluation between steps is planned: of SFT by transformers' own layers, on one card or under DDP."""
        plain = self.objective == "sft" and self.stack_name != "unsloth" and self.layout.strategy in {"single", "ddp"}
        return plain and self.training.per_device_eval_batch_size is not None

    @property
    def of_evaluation(self) -> "Recipe":
        """How a batch of evaluation runs: nothing is checkpointed, and no gradients are there."""
        changed = {
            "per_device_train_batch_size": self.training.per_device_eval_batch_size or 1,
            "gradient_checkpointing": False, "gradient_accumulation_steps": 1, "per_device_eval_batch_size": None,
            "neftune_noise_alpha": None,
        }  # fmt: skip
        return replace(self, training=self.training.model_copy(update=changed))

    @property
    def scores_by_reference(self) -> bool:
        """Whether each training step runs the reference model."""
        return self.reference != "none" and not self.training.precompute_ref_log_probs

    @property
    def of_reference_model(self) -> "Recipe":
        """How a second model that only scores is loaded: as the trained one, without peft's preparation."""
        return replace(self, kbit_preparation=False)

    @property
    def offloads(self) -> bool:
        """Whether saved activations wait on the host in a way that the formulas follow."""
        training = self.training
        offloaded = training.activation_offloading and training.gradient_checkpointing is True
        return offloaded and not training.use_reentrant and self.layout.strategy == "single"

    @property
    def accumulates(self) -> bool:
        """Whether gradients outlive a micro-batch."""
        return self.training.gradient_accumulation_steps > 1

    @property
    def trained_dtype(self) -> Dtype:
        """Dtype of what is trained and so of its gradients: the adapters, or the model itself."""
        return self.model_dtype if self.lora is None else self.adapter_dtype

    @property
    def copied_dtype(self) -> Dtype:
        """Dtype of the copies that `modules_to_save` trains: that of the originals, which PEFT does not upcast.

        tuners_utils.py cast_adapter_dtype looks into adapters alone; what casts these to 16 bit casts the copies, too
        (trl/trainer/sft_trainer.py).
        """
        if self.lora and self.lora.modules_to_save_dtype:
            return self.lora.modules_to_save_dtype
        if self.adapter_dtype != "float32":
            return self.adapter_dtype
        return "float32" if self.kbit_preparation else self.model_dtype

    @property
    def collated(self) -> bool:
        """Whether a collator adds an attention mask; TRL's for preferences always does."""
        return (self.by_trainer and not self.training.packing) or self.training.padded or self.objective != "sft"

    @property
    def dropout(self) -> bool:
        """Whether adapters drop activations. TRL's trainers of preferences set every dropout to 0 (disable_dropout)."""
        return bool(self.lora and self.lora.lora_dropout > 0 and self.objective in {"sft", "grpo"})

    @property
    def by_trainer(self) -> bool:
        """Whether a preset drives the real Trainer.

        Its collator adds an attention mask even where every token counts; its create_optimizer speaks to bitsandbytes
        about embeddings. A loop of exact-length tokens does neither, nor does a harness that spells its switches out.
        """
        return self.stack_name in BY_TRAINER

    @property
    def scales_loss(self) -> bool:
        """Whether a GradScaler stands around the step, as accelerate has it for float16 autocast.

        It takes float32 gradients only, so a harness of one's own that trains in 16 bit has none.
        """
        return self.autocast == "float16" and self.trained_dtype == "float32"

    @property
    def cannot_unscale(self) -> bool:
        """Whether a preset's GradScaler meets 16-bit gradients, and so stops at the first optimizer step.

        trl/trainer/sft_trainer.py casts the adapters of a quantized model to bfloat16, for whose gradients there is no
        CUDA kernel (aten/src/ATen/native/cuda/AmpKernels.cu, AT_DISPATCH_FLOATING_TYPES_AND_HALF).
        """
        narrow = self.trained_dtype != "float32" or self.copies_in_16_bit
        return self.autocast == "float16" and narrow and self.stack_name != "custom"

    @property
    def narrowest_trained(self) -> Dtype:
        """Of adapters and copies, the dtype that is not float32, if one is not."""
        return self.copied_dtype if self.trained_dtype == "float32" and self.copies_in_16_bit else self.trained_dtype

    @property
    def copies_in_16_bit(self) -> bool:
        """Whether 16-bit copies of whole modules are trained: those of `modules_to_save`, a reward model's head."""
        copies = self.lora is not None and (self.lora.modules_to_save or self.objective == "reward")
        return bool(copies) and self.copied_dtype != "float32"

    @classmethod
    def of(cls, request: Request) -> "Recipe":
        """Settle every default of `request`."""
        quantization = (request.quantization or CHAPTER_QUANTIZATION) if request.method == "qlora" else None
        stack = stack_switches(request)
        name = request.stack if isinstance(request.stack, str) else "custom"
        # Only bitsandbytes' 4-bit kernels have a compute dtype of their own; int8 and HQQ follow the model's.
        compute: Dtype = (
            quantization.bnb_4bit_compute_dtype if quantization and quantization.load_in_4bit else stack.model_dtype
        )
        return cls(
            method=request.method,
            quantization=quantization,
            lora=request.lora if request.method != "full" else None,
            training=request.training,
            model_dtype=stack.model_dtype,
            compute_dtype=compute,
            adapter_dtype=stack.adapter_dtype,
            # DeepSpeed's engine computes in the model's own dtype (accelerate/accelerator.py _prepare_deepspeed).
            autocast=None if request.deepspeed is not None else stack.autocast,
            kbit_preparation=stack.kbit_preparation and quantization is not None,
            outputs_kept=stack.outputs_kept,
            loss=request.training.loss or _default_loss(request),
            stack_name=name,
            objective=request.training.objective,
            reference=request.training.reference(has_adapters=request.method != "full"),
            layout=layout_of(request, stack.autocast, by_accelerate=name in BY_TRAINER),
            strategy=request.ddp or request.fsdp or request.deepspeed or _device_map(request),
        )


def _device_map(request: Request) -> DeviceMap | None:
    if request.device_map is None or request.gpus == 1:
        return None
    given, limits = request.device_map, request.max_memory
    return DeviceMap(
        placement=tuple(given.items()) if isinstance(given, dict) else given,
        max_memory=tuple(sorted(limits.items())) if limits is not None else None,
        cards=request.cards or (),
    )


_parts = attrgetter(*(item.name for item in fields(Recipe) if item.compare))


@lru_cache(maxsize=64)  # as many as planner/step/lines.py keeps of a run that is asked about several times
def _of_any_size(recipe: Recipe) -> Recipe:
    one = {"per_device_train_batch_size": 1, "max_length": 1, "per_device_eval_batch_size": None}
    return replace(recipe, training=recipe.training.model_copy(update=one))


def _default_loss(request: Request) -> Loss:
    objective, by_trl = request.training.objective, request.stack == "trl"
    return "chunked" if objective in BY_FUSED_HEAD or (objective == "sft" and by_trl) else "full_logits"


def stack_switches(request: Request) -> Stack:
    """The switches a preset stands for (reference: memory-internals 4.0).

    trainer: Trainer(bf16=True), base in 16 bit, autocast, adapters float32 (PEFT autocast_adapter_dtype).
    trl:     SFTTrainer casts the adapters of a bitsandbytes model to bfloat16 (is_loaded_in_4bit, _8bit).
    kbit:    prepare_model_for_kbit_training, then the trainer path.
    loop:    plain PyTorch, no autocast.
    unsloth: base in 16 bit under Trainer's autocast, adapters float32 (models/llama.py, prepare_model_for_training).
    A float16 recipe autocasts in float16, any other in bfloat16.
    """
    if isinstance(request.stack, Stack):
        return request.stack
    compute = request.quantization.bnb_4bit_compute_dtype if request.quantization else "bfloat16"
    half: HalfDtype = "float16" if compute == "float16" else "bfloat16"
    quantization = request.quantization or CHAPTER_QUANTIZATION
    on_bitsandbytes = request.method == "qlora" and quantization.quant_method == "bitsandbytes"
    return Stack(
        model_dtype=half,
        kbit_preparation=request.stack == "kbit",
        autocast=None if request.stack == "loop" else half,
        adapter_dtype="bfloat16" if request.stack == "trl" and on_bitsandbytes else "float32",
    )
