"""What an instrument cannot do, said before anything is loaded: every problem at once, each with the fix."""

import importlib.util
from collections.abc import Iterator

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe.options import HUB, Options
from planner.probe.training import fake_quantization, hqq, low_rank, optimizers
from planner.request.initialisation import decomposes
from planner.request.recipe import Recipe
from planner.request.schema import Request
from planner.request.unprobed import unprobed

# What transformers imports to load and run weights of a kind (quantizers/quantizer_*.py, validate_environment).
# Without --no-deps pip would fetch NVIDIA's libraries, which nothing here calls; its other needs are the probe's own.
INSTALL_DEEPSPEED = (
    "install DeepSpeed beside the probe: "
    "pip install --no-build-isolation --no-deps deepspeed==0.19.8 hjson msgpack ninja py-cpuinfo"
)
_NEEDED = {"gptq": ("optimum", "gptqmodel"), "awq": ("gptqmodel",), "fp8": ("kernels",)}


def refuse_what_cannot_run(request: Request, recipe: Recipe, options: Options) -> None:
    """Check request and options against each other.

    Raises:
        InvalidRequestError: names everything that this instrument cannot do.
    """
    problems = list(_problems(request, recipe, options))
    if problems:
        raise InvalidRequestError("This instrument cannot run this request.", problems)


def _problems(request: Request, recipe: Recipe, options: Options) -> Iterator[FieldProblem]:
    on_cpu, on_virtual_card = options.instrument == "cpu", options.instrument == "dry-run"
    if hqq.is_group_wise(recipe) and not hqq.is_installed():
        yield FieldProblem("quantization.quant_method", f"{hqq.INSTALL}; or plan hqq by formula")
    yield from _not_installed(recipe)
    yield from unprobed(recipe, options.instrument)
    if on_virtual_card and recipe.lora and decomposes(recipe.lora.init_lora_weights):
        fix = "a virtual card has no cuSOLVER to decompose weights with; write true, whose steps are the same"
        yield FieldProblem("lora.init_lora_weights", fix)
    if recipe.objective == "kto" and recipe.batch == 1:
        # trl 1.16 kto_trainer.py KTOTrainer.__init__: "Actual (not effective) batch size must be > 1"
        yield FieldProblem("training.per_device_train_batch_size", "KTO mixes the examples of a batch; write 2 or more")
    if on_cpu:
        yield from _needs_a_card(request, recipe, options)
    elif recipe.cannot_unscale:
        fix = (
            f"GradScaler cannot unscale {recipe.narrowest_trained} gradients, so this run fails at its first optimizer "
            "step; use bfloat16, or a stack that trains in float32"
        )
        yield FieldProblem("stack", fix)
    if not on_cpu and recipe.training.attn_implementation == "flash_attention_2" and not _has_flash_attn():
        fix = (
            "flash_attention_2 needs the flash_attn package, which is not installed here; use sdpa, or plan by formula"
        )
        yield FieldProblem("training.attn_implementation", fix)
    if not on_virtual_card and options.routing != "even":
        yield FieldProblem("--routing", "a device routes by the weights' values; drop it, or use --on dry-run")
    if options.weights == HUB and not names_a_repository(request):
        yield FieldProblem("--weights", "a pasted config names no repository; give a folder, or a hub id as model")


def names_a_repository(request: Request) -> bool:
    """Whether the hub has weights under this request's model."""
    return isinstance(request.model, str) or "_name_or_path" in request.model


def _not_installed(recipe: Recipe) -> Iterator[FieldProblem]:
    """What the probe's own packages do not bring."""
    method = recipe.quantization.quant_method if recipe.quantization else ""
    missing = [name for name in _NEEDED.get(method, ()) if importlib.util.find_spec(name) is None]
    if missing:
        fix = f"transformers runs {method} weights with {' and '.join(missing)}, not installed here; plan it by formula"
        yield FieldProblem("model.quantization_config", fix)
    if recipe.loss == "cut_cross_entropy":
        yield FieldProblem("training.loss", "no instrument runs Cut Cross-Entropy; plan it by formula, or probe liger")
    if recipe.layout.strategy == "zero" and importlib.util.find_spec("deepspeed") is None:
        yield FieldProblem("deepspeed", f"{INSTALL_DEEPSPEED}; or plan it by formula")
    if recipe.quantization and recipe.layout.strategy == "zero" and recipe.layout.parameter_shards > 1:
        fix = (
            "this probe builds stage 3's model unquantized; take stage 2, or dry-run your script: fitproof dry-run"
        )
        yield FieldProblem("deepspeed.stage", fix)
    if recipe.training.qat and importlib.util.find_spec(fake_quantization.PACKAGE) is None:
        yield FieldProblem("training.qat", "runs with torchao: pip install --no-deps torchao; or plan it by formula")
    package = low_rank.PACKAGES.get(recipe.training.optim)
    if package and importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        yield FieldProblem("training.optim", f"runs with {name}: pip install --no-deps {name}; or plan it by formula")
    if not package and not optimizers.is_built(recipe.training.optim):
        fix = f"{recipe.training.optim} comes from a package the probe does not install; plan it by formula"
        yield FieldProblem("training.optim", fix)


def _needs_a_card(request: Request, recipe: Recipe, options: Options) -> Iterator[FieldProblem]:
    """What a CPU run cannot do."""
    if recipe.loss == "liger":
        yield FieldProblem("training.loss", "Liger's kernels need CUDA; use --on cuda or --on dry-run")
    if recipe.training.activation_offloading:
        fix = "needs a card to offload from; use --on cuda or --on dry-run"
        yield FieldProblem("training.activation_offloading", fix)
    if recipe.training.attn_implementation == "flash_attention_2":
        fix = "flash_attention_2 needs CUDA; use sdpa, --on cuda or --on dry-run"
        yield FieldProblem("training.attn_implementation", fix)
    if recipe.lora and recipe.lora.use_dora and request.quantization and request.quantization.load_in_8bit:
        # peft 0.21.2, utils/integrations.py dequantize_module_weight: `module.weight.to("cpu")` forgets the scales.
        fix = "on a CPU peft loses the row scales of 8-bit weights; use 4-bit, --on cuda or --on dry-run"
        yield FieldProblem("lora.use_dora", fix)
    for name, asked in (
        ("--memory-limit", options.memory_limit_bytes is not None),
        ("--find-smallest", options.find_smallest),
    ):
        if asked:
            yield FieldProblem(name, "a CPU run has no card to play; drop it, or use --on dry-run")
    if options.snapshot is not None:
        yield FieldProblem("--snapshot", "a CPU run has no memory snapshot; drop it, or use --on dry-run or --on cuda")


def _has_flash_attn() -> bool:
    return importlib.util.find_spec("flash_attn") is not None
