"""What an instrument cannot do, said before anything is loaded: every problem at once, each with the fix."""

from collections.abc import Iterator

from planner.errors import FieldProblem, InvalidRequestError
from planner.probe import groupwise, optimizers
from planner.probe.options import Options
from planner.recipe import Recipe
from planner.request import Request


def refuse_what_cannot_run(request: Request, recipe: Recipe, options: Options) -> None:
    """Check request and options against each other.

    Raises:
        InvalidRequestError: names everything that this instrument cannot do.
    """
    problems = list(_problems(request, recipe, options))
    if problems:
        raise InvalidRequestError("This instrument cannot run this request.", problems)


def _problems(request: Request, recipe: Recipe, options: Options) -> Iterator[FieldProblem]:
    on_cpu = options.instrument == "cpu" or (options.instrument == "dry-run" and options.follow == "cpu")
    if groupwise.is_group_wise(recipe) and not groupwise.is_installed():
        yield FieldProblem("quantization.quant_method", f"{groupwise.INSTALL}; or plan hqq by formula")
    yield from _not_installed(recipe)
    if on_cpu and recipe.loss == "liger":
        yield FieldProblem("training.loss", "Liger's kernels need CUDA; use --on cuda, or follow a card in a dry run")
    if on_cpu and recipe.training.attn_implementation == "flash_attention_2":
        fix = "flash_attention_2 needs CUDA; use sdpa, --on cuda, or follow a card in a dry run"
        yield FieldProblem("training.attn_implementation", fix)
    if on_cpu and recipe.lora and recipe.lora.use_dora and request.quantization and request.quantization.load_in_8bit:
        # peft 0.21.2, utils/integrations.py dequantize_module_weight: `module.weight.to("cpu")` forgets the scales.
        fix = "on a CPU peft loses the row scales of 8-bit weights; use 4-bit, --on cuda, or follow a card in a dry run"
        yield FieldProblem("lora.use_dora", fix)
    if on_cpu and options.memory_limit_bytes is not None:
        yield FieldProblem("--memory-limit", "a CPU run has no card to play; drop it, or follow a card in a dry run")
    if on_cpu and options.find_smallest:
        yield FieldProblem("--find-smallest", "a CPU run has no card to play; drop it, or follow a card in a dry run")
    if recipe.cannot_unscale and not on_cpu:
        fix = (
            f"GradScaler cannot unscale {recipe.trained_dtype} gradients, so this run fails at its first optimizer "
            "step; use bfloat16, or a stack whose adapters are float32"
        )
        yield FieldProblem("stack", fix)
    if options.instrument != "dry-run" and options.follow is not None:
        yield FieldProblem("--as", "only a dry run can follow another device; drop it")
    if options.instrument != "cuda" and options.snapshot is not None:
        yield FieldProblem("--snapshot", "only a CUDA run has torch's memory snapshot; drop it, or use --on cuda")
    if options.instrument == "dry-run" and options.weights != "synthetic":
        yield FieldProblem("--weights", "a dry run has no weights; drop it, or use --on cpu or --on cuda")
    if options.weights == "hub" and not isinstance(request.model, str):
        yield FieldProblem("--weights", "a pasted config names no repository; give a folder, or a hub id as model")


def _not_installed(recipe: Recipe) -> Iterator[FieldProblem]:
    """What the probe's own packages do not bring."""
    if recipe.loss == "cut_cross_entropy":
        yield FieldProblem("training.loss", "no instrument runs Cut Cross-Entropy; plan it by formula, or probe liger")
    if recipe.training.optim not in optimizers.BUILDERS:
        fix = f"{recipe.training.optim} comes from a package the probe does not install; plan it by formula"
        yield FieldProblem("training.optim", fix)
