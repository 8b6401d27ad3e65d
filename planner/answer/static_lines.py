"""The lines that do not depend on batch, length or card: what is there before the first token."""

from dataclasses import replace
from functools import lru_cache

from planner.allocator.load_phase import INSTALLED, Habits, Loaded, play_load
from planner.gpu import Gpu, multiprocessors
from planner.ledger import Ledger, Line
from planner.memory.adapters import adapter_lines
from planner.memory.decomposition import decomposition_lines
from planner.memory.gradients import gradient_lines
from planner.memory.optimizer import optimizer_lines
from planner.memory.row_sums import Summing
from planner.memory.runtime import runtime_lines, slack_lines
from planner.memory.scaler import loss_lines, scaler_lines
from planner.memory.weights import reference_lines, weight_lines
from planner.model.model import Model
from planner.parallel.static import ddp_static_lines, fsdp_static_lines
from planner.parallel.zero_static import zero_static_lines
from planner.request.dtypes import Dtype
from planner.request.low_rank import projection_of
from planner.request.optimizer_names import KEPT, Optimizer
from planner.request.parallel import Ddp, DeepSpeed
from planner.request.recipe import Recipe
from planner.request.schema import Training
from planner.step.recorded import nearest, optimizer_words, trained_words, weights_words
from planner.tensors.inventory import Census
from planner.tensors.modules import ALL_LINEAR
from planner.tensors.peft_methods import frozen_bytes
from planner.tensors.projected import with_projections
from planner.tensors.targets import adapted_weights
from planner.tensors.tensor_storage import place, refuse_quantized_copies
from planner.tensors.trainable import (
    AdapterDtypes,
    Trainable,
    adapter_tensors,
    model_tensors,
    refuse_biases_beside_other_storage,
)
from planner.tensors.whole_modules import copied_buffers

_NO_TRAINING = Training()
_EXPANDABLE = Training(expandable_segments=True)


def static_lines(model: Model, recipe: Recipe, gpu: Gpu | None = None) -> tuple[Line, ...]:
    """Weights, adapters, gradients and optimizer state. `gpu`: without one, no sums that depend on its size.

    Raises:
        InvalidRequestError: the LoRA targets match nothing in this model, or something PEFT refuses.
    """
    cut = recipe.layout.shards or isinstance(recipe.strategy, DeepSpeed)
    layers = model.decoder.layers if cut and model.decoder else 1
    return _labelled(model.census, model.model_type, _without_sizes(recipe), layers, summing_of(recipe, gpu))


def standing_bytes(model: Model, recipe: Recipe, gpu: Gpu) -> tuple[int, ...]:
    """Per phase of `PHASES`, what is there on one card whatever the step does: static lines and cuBLAS's workspaces.

    Raises:
        InvalidRequestError: see `static_lines`.
    """
    summing, own = summing_of(recipe, gpu), _without_sizes(recipe)
    return _standing_bytes(model.census, model.model_type, own, gpu.compute_capability, summing)


def summing_of(recipe: Recipe, gpu: Gpu | None) -> Summing | None:
    """What Adafactor's step depends on; None where the optimizer makes no means, so that all cards share one answer."""
    if gpu is None or KEPT[recipe.training.optim].storage != "factored":
        return None
    return Summing(multiprocessors(gpu), gpu.compute_capability)


def standing_adapter_lines(model: Model, recipe: Recipe) -> list[Line]:
    """The adapter's own, without what is there while it is made.

    Raises:
        InvalidRequestError: see `static_lines`.
    """
    return _adapters(model.census, model.model_type, recipe, trained_tensors(model, recipe))[0]


def trained_tensors(model: Model, recipe: Recipe) -> tuple[Trainable, ...]:
    """What the run updates: the adapters, or everything.

    Raises:
        InvalidRequestError: see `static_lines`.
    """
    return _trained(model.census, model.model_type, recipe)


@lru_cache(maxsize=2048)
def _static_lines(
    census: Census, model_type: str, recipe: Recipe, layers: int, summing: Summing | None
) -> tuple[Line, ...]:
    tensors = _trained(census, model_type, recipe)
    if recipe.layout.strategy == "fsdp":
        sharded = [*fsdp_static_lines(place(census, recipe), tensors, recipe, layers), *loss_lines()]
        return tuple(line for line in sharded if line.bytes)
    if isinstance(recipe.strategy, DeepSpeed) and recipe.layout.strategy == "zero":
        parts = zero_static_lines(place(census, recipe), tensors, recipe, recipe.strategy, layers)
        return tuple(line for line in (*parts, *loss_lines()) if line.bytes)
    adapters, first_values = _adapters(census, model_type, recipe, tensors)
    # Full fine-tuning trains the weights themselves, already counted below.
    adapters_bytes = sum(line.bytes for line in adapters)
    training = recipe.training
    placed = place(census, recipe)
    views = isinstance(recipe.strategy, Ddp) and recipe.strategy.gradient_as_bucket_view
    lines = [
        *weight_lines(placed, recipe, adapters_bytes=adapters_bytes),
        *adapters,
        *first_values,
        *([] if views else gradient_lines(tensors)),
        *optimizer_lines(
            tensors,
            training.optim,
            clips=training.max_grad_norm > 0,
            embeddings_in_32bit=recipe.by_trainer,
            column_means=summing.column_means_bytes if summing else None,
        ),
        *(_reference_lines(census, recipe) if recipe.reference == "copy" else ()),
        *loss_lines(),
        *scaler_lines(scales_loss=recipe.scales_loss),
        *(ddp_static_lines(placed, tensors, recipe) if recipe.layout.strategy == "ddp" else ()),
        *([] if training.expandable_segments else _slack_lines(census, recipe)),
    ]
    return tuple(line for line in lines if line.bytes)


@lru_cache(maxsize=512)
def _labelled(
    census: Census, model_type: str, recipe: Recipe, layers: int, summing: Summing | None
) -> tuple[Line, ...]:
    """Each line with how its part of the run compared with recorded ones."""
    lines = _static_lines(census, model_type, recipe, layers, summing)
    weights = nearest("weights", weights_words(model_type, recipe))
    trained = nearest("trained", trained_words(model_type, recipe))
    optimizer = nearest("optimizer", optimizer_words(recipe))
    by_cause = {"weights": weights, "adapters": trained, "gradients": trained}
    return tuple(labelled for line in lines for labelled in by_cause.get(line.cause, optimizer).labelled([line]))


def _adapters(
    census: Census, model_type: str, recipe: Recipe, tensors: tuple[Trainable, ...]
) -> tuple[list[Line], list[Line]]:
    """Those of adapters, and what first values that are decomposed out of weights take while they are made."""
    lora = recipe.lora
    if lora is None:
        return [], []
    adapted = adapted_weights(census, model_type, lora)
    frozen = frozen_bytes(adapted, lora, trains_ranks=_trains_ranks(recipe))
    lines = adapter_lines(tensors, copied_buffers(census, lora), peft_type=lora.peft_type, frozen_bytes=frozen)
    return lines, decomposition_lines(adapted, recipe)


def _reference_lines(census: Census, recipe: Recipe) -> list[Line]:
    own = recipe.of_reference_model
    return reference_lines(place(census, own), own)


@lru_cache(maxsize=2048)
def _standing_bytes(
    census: Census, model_type: str, recipe: Recipe, capability: tuple[int, int] | None, summing: Summing | None
) -> tuple[int, ...]:
    workspaces = runtime_lines(capability, context_bytes=0, context_source="")
    ledger = Ledger.of((*_static_lines(census, model_type, recipe, 0, summing), *workspaces))
    return tuple(phase.allocated_bytes for phase in ledger.phases())


def _trained(census: Census, model_type: str, recipe: Recipe) -> tuple[Trainable, ...]:
    if recipe.lora is None:
        tensors, training = model_tensors(census, recipe.model_dtype), recipe.training
        projection = projection_of(training.optim, training.optim_args)
        if projection is None:
            return tensors
        return with_projections(tensors, census, training.optim_target_modules or ALL_LINEAR, projection)
    dtypes = AdapterDtypes(
        matrices=recipe.adapter_dtype,
        magnitudes="float32",
        copies=recipe.lora.modules_to_save_dtype,
        biases=_dtype_of_biases(recipe),
        originals="float32" if recipe.kbit_preparation else recipe.model_dtype,
        layers=_dtype_of_adapted_layers(recipe),
        trains_ranks=_trains_ranks(recipe),
    )
    tensors = adapter_tensors(census, model_type, recipe.lora, dtypes)
    if recipe.quantization is not None and not recipe.quantization.load_in_4bit:
        refuse_biases_beside_other_storage(tensors)
    if recipe.quantization is not None and recipe.lora.modules_to_save:
        refuse_quantized_copies(place(census, recipe), (tensor.name for tensor in tensors if tensor.copied))
    return tensors


def _dtype_of_biases(recipe: Recipe) -> Dtype:
    """A `Linear4bit` leaves its bias in the dtype that it computes in (planner/tensors/tensor_storage.py)."""
    if recipe.quantization is not None and recipe.quantization.load_in_4bit:
        return recipe.compute_dtype
    return "float32" if recipe.kbit_preparation else recipe.model_dtype


def _trains_ranks(recipe: Recipe) -> bool:
    """Whether PEFT casts adapters that it gave their layers' 16 bit."""
    in_8bit = recipe.quantization is not None and recipe.quantization.load_in_8bit
    return in_8bit or _dtype_of_adapted_layers(recipe) != "float32"


def _dtype_of_adapted_layers(recipe: Recipe) -> Dtype:
    """The compute dtype where a layer has one; float32 where weights are whole numbers, which PEFT gives no adapter."""
    if recipe.quantization is not None:
        return recipe.compute_dtype if recipe.quantization.load_in_4bit else "float32"
    return "float32" if recipe.kbit_preparation else recipe.model_dtype


# As many as planner/step/lines.py keeps of a run that is asked about several times.
@lru_cache(maxsize=64)
def _without_sizes(recipe: Recipe) -> Recipe:
    """`recipe` with everything erased that static bytes do not depend on, so that all sizes share one answer."""
    training = recipe.training
    clips, expandable = training.max_grad_norm > 0, training.expandable_segments
    plain = _plain_training(training.optim, clips, expandable)
    if training.optim_target_modules is not None:
        named = {"optim_args": training.optim_args, "optim_target_modules": training.optim_target_modules}
        plain = plain.model_copy(update=named)
    autocast: Dtype | None = "float16" if recipe.scales_loss else None
    return replace(recipe, training=plain, loss="full_logits", autocast=autocast, outputs_kept=False)


@lru_cache(maxsize=64)
def _plain_training(optim: Optimizer, clips: bool, expandable: bool) -> Training:
    return Training(
        optim=optim,
        max_grad_norm=float(clips),
        expandable_segments=expandable,
    )


def _slack_lines(census: Census, recipe: Recipe) -> list[Line]:
    loaded = loaded_model(census, recipe)
    return slack_lines(loaded.loaded_slack_bytes, loaded.prepared_slack_bytes)


def loaded_model(census: Census, recipe: Recipe, habits: Habits = INSTALLED) -> Loaded:
    """The base model in the allocator, before there are adapters."""
    return _loaded(census, _loading_only(recipe), habits)


@lru_cache(maxsize=512)
def _loaded(census: Census, recipe: Recipe, habits: Habits) -> Loaded:
    return play_load(place(census, recipe), recipe, habits)


@lru_cache(maxsize=64)
def _loading_only(recipe: Recipe) -> Recipe:
    """`recipe` with everything erased that loading does not depend on."""
    training = _EXPANDABLE if recipe.training.expandable_segments else _NO_TRAINING
    return replace(
        recipe, training=training, lora=None, adapter_dtype="float32", stack_name="", objective="sft", reference="none"
    )
