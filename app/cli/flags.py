"""The flags that describe a run, once for every command that takes one, and the request they spell out."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.lora_options import LORA_OPTIONS, LoraOption
from planner.errors import FieldProblem, InvalidRequestError

if TYPE_CHECKING:
    from app.imports import Imported
    from planner.answer.not_planned import NotPlanned


_Asked = TypeVar("_Asked", bound=dict[str, Any])


class Document(dict[str, Any]):
    """A request as JSON. `imported` is the trainer's file that it was read from, if one was."""

    imported: "Imported | None" = None

    @property
    def not_planned(self) -> "Sequence[NotPlanned]":
        """What that file asks for and no formula plans."""
        return self.imported.not_planned if self.imported else ()


# What trainers' files and command lines end with.
_FILES = {".yml", ".yaml", ".json", ".sh", ".py", ".ipynb"}
_LARGEST_DOCUMENT_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `path` is where its value goes in the request; `constant` is what a flag without a value stands for."""

    option: str
    path: str
    kind: type
    help: str
    metavar: str | None = None
    constant: object = None

    @property
    def name(self) -> str:
        """The parameter that holds its value."""
        return self.option.split("/")[0].removeprefix("--").replace("-", "_")


def _of_lora(option: LoraOption) -> Flag:
    name, path = f"--{option.name.replace('_', '-')}", f"lora.{option.name}"
    if option.written == "switch":
        return Flag(name, path, bool, option.help, constant=True)
    return Flag(name, path, str, option.help, option.metavar)


FLAGS = (
    Flag("--method", "method", str, "How to train.", "qlora|lora|full"),
    Flag("--batch", "training.per_device_train_batch_size", int, "Sequences in a micro-batch."),
    Flag("--accumulation", "training.gradient_accumulation_steps", int, "Micro-batches per optimizer step."),
    Flag("--length", "training.max_length", int, "Tokens in a sequence."),
    Flag("--rank", "lora.r", int, "LoRA rank."),
    Flag("--alpha", "lora.lora_alpha", float, "LoRA alpha."),
    Flag("--dropout", "lora.lora_dropout", float, "LoRA dropout."),
    Flag("--targets", "lora.target_modules", str, "Where adapters go.", "all-linear|q_proj,v_proj,..."),
    Flag("--dora", "lora.use_dora", bool, "Use DoRA.", constant=True),
    *map(_of_lora, LORA_OPTIONS),
    Flag("--optim", "training.optim", str, "Optimizer.", "paged_adamw_8bit|adamw_torch|..."),
    Flag("--optim-targets", "training.optim_target_modules", str, "What GaLore projects.", "all-linear|attn,mlp"),
    Flag("--optim-args", "training.optim_args", str, "GaLore's and APOLLO's arguments.", "rank=128,proj=random"),
    Flag("--no-checkpointing", "training.gradient_checkpointing", bool, "Keep every activation.", constant=False),
    Flag("--checkpointing", "training.gradient_checkpointing", bool, "Where a file has none.", constant=True),
    Flag("--attention", "training.attn_implementation", str, "Attention.", "sdpa|eager|flash_attention_2"),
    Flag("--loss", "training.loss", str, "How the loss is computed.", "full_logits|chunked|liger|cut_cross_entropy"),
    Flag("--liger", "training.liger_kernel_config", str, "Liger's kernels beside any loss.", "rope,rms_norm,swiglu"),
    Flag("--objective", "training.objective", str, "What is trained for.", "sft|dpo|kto|orpo|cpo|reward|grpo"),
    Flag("--completion", "training.max_completion_length", int, "Of GRPO's sequence, tokens to generate."),
    Flag("--beta", "training.beta", float, "GRPO's weight of a reference; 0 has none."),
    Flag("--generations", "training.num_generations", int, "GRPO's completions for each prompt."),
    Flag("--steps-per-generation", "training.steps_per_generation", int, "GRPO's micro-batches for each generation."),
    Flag("--iterations", "training.num_iterations", int, "How often GRPO trains on what it generated."),
    Flag("--vllm", "training.vllm_gpu_memory_utilization", float, "Share of the card that vLLM generates in."),
    Flag("--precompute-ref", "training.precompute_ref_log_probs", bool, "Reference scores first.", constant=True),
    Flag("--ref-model", "training.ref_model", str, "Load the reference as a second model.", "copy"),
    Flag("--eval-batch", "training.per_device_eval_batch_size", int, "Sequences evaluated at a time, between steps."),
    Flag("--packing", "training.packing", bool, "Documents packed in one row, as TRL does.", constant=True),
    Flag("--offload-activations", "training.activation_offloading", bool, "TRL's, to the host.", constant=True),
    Flag("--qat", "training.qat", int, "Quantization-aware training, int4 in groups under int8 activations.", "32"),
    Flag("--neftune", "training.neftune_noise_alpha", float, "NEFTune's noise on the embedded tokens.", "5"),
    Flag("--padded", "training.padded", bool, "Batches hold padding.", constant=True),
    Flag("--expandable-segments", "training.expandable_segments", bool, "The allocator's setting.", constant=True),
    Flag("--stack", "stack", str, "The training stack.", "trainer|trl|kbit|loop|unsloth"),
    Flag("--quant-type", "quantization.bnb_4bit_quant_type", str, "Storage of the base.", "nf4|fp4|int8|int4"),
    Flag("--no-double-quant", "quantization.bnb_4bit_use_double_quant", bool, "Plain constants.", constant=False),
    Flag("--compute-dtype", "quantization.bnb_4bit_compute_dtype", str, "Arithmetic.", "bfloat16|float16|float32"),
    Flag("--gpus", "gpus", int, "How many cards; DDP where no strategy is named."),
    Flag("--fsdp", "fsdp", str, "Shard over them.", "full_shard|'full_shard offload'|shard_grad_op|hybrid_shard"),
    Flag("--deepspeed", "deepspeed", str, "ZeRO over them.", "zero1|zero2|zero3|zero3-offload|FILE"),
    Flag("--cp-size", "parallelism_config.cp_size", int, "Parts of each sequence, a card each: a ring (FSDP2)."),
    Flag("--sp-size", "parallelism_config.sp_size", int, "The same by Ulysses (DeepSpeed)."),
    Flag("--device-map", "device_map", str, "Layers in turn over them.", "auto|balanced|balanced_low_0|sequential"),
    Flag("--max-memory", "max_memory", str, "Of weights on each card, beside --device-map.", "0=20GiB,1=10GiB"),
    Flag("--tokens", "tokens", int, "Tokens to train on: says how many hours."),
    Flag("--price-per-hour", "price_per_hour", float, "Of one card, in any currency: says what those hours cost."),
    Flag("--memory", "gpu.total_memory_bytes", str, "A card by its memory, as torch sees it.", "24GiB"),
    Flag("--capability", "gpu.compute_capability", str, "That card's compute capability.", "8.9"),
)

_CHAPTER = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"}
_OTHER_STORAGE: dict[str, dict[str, Any]] = {"int8": {"load_in_8bit": True}, "int4": {"quant_method": "hqq"}}


def takes_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(document, **its own options)` the arguments and flags that describe a run.

    Typer reads a command's parameters from its signature; here that signature is written from the table above.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [own.replace(kind=own.KEYWORD_ONLY) for name, own in signature.parameters.items() if name != "document"]
    shared = [_argument("model", "Catalogue name, hub id, folder, config.json, or a trainer's file.")]
    shared.append(_argument("gpu", 'Catalogue name: "4090"; or here, this machine\'s own.'))
    shared.append(_option("card", "--gpu", str, "The card, as the second argument names it.", "4090|2x3090|here"))
    shared.append(_option("request", "--request", str, "Read the request from a file; - is stdin.", "FILE|-"))
    shared += [_option(flag.name, flag.option, flag.kind, flag.help, flag.metavar) for flag in FLAGS]

    def run(**given: Any) -> None:
        document = document_of({parameter.name: given.pop(parameter.name) for parameter in shared})
        command(document, **given)

    parameters = [*shared, *own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # inspect's documented override
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


def document_of(given: Mapping[str, Any]) -> Document:
    """Build the request that the arguments spell out; flags win over the file.

    Raises:
        InvalidRequestError: the file cannot be read, or a size is no size.
    """
    given = {**given, "gpu": one_card(given.get("gpu"), given.get("card"))}
    document = _document_from_files(given)
    for place in ("model", "gpu"):
        if given.get(place) and not (place == "model" and document.imported):
            document[place] = given[place]
    if given.get("gpu") and (given.get("memory") or given.get("capability")):
        raise _bad("gpu", f"{given['gpu']} has a memory and kernels of its own; keep it, or --memory and --capability")
    for flag in FLAGS:
        value = given.get(flag.name)
        if value is not None and value is not False:
            _put(document, flag.path, value if flag.constant is None else flag.constant)
    return with_the_card_here(document)


def one_card(argument: str | None, option: str | None) -> str | None:
    """The card, by whichever of the two names it.

    Raises:
        InvalidRequestError: they name two.
    """
    if argument and option and argument != option:
        raise _bad("gpu", f"{argument} and --gpu {option} contradict each other; keep one")
    return argument or option


def with_the_card_here(document: _Asked) -> _Asked:
    """`document` with this machine's own card where it names `here`."""
    from app.cli.here import card_here, means_here

    if means_here(document.get("gpu")):
        document["gpu"] = card_here(document["gpu"])
    return document


def _document_from_files(given: Mapping[str, Any]) -> Document:
    name = given.get("model")
    if name and _names_a_file(Path(name)):
        raise _bad("model", f"{name} is not there; give a trainer's file, a catalogue name, a hub id or a folder")
    if name and _is_trainer_file(Path(name)):
        from app.cli.trainer_file import read_trainer_file, say_what_became_of_it

        imported = read_trainer_file(name, given.get("gpu"))
        say_what_became_of_it(imported)
        document = Document(imported.document)
        document.imported = imported
        return document
    return read_document(given["request"]) if given.get("request") else Document()


def _is_trainer_file(path: Path) -> bool:
    """Whether a trainer would read it. A model's own config.json is a model."""
    return path.suffix.lower() in _FILES and path.name != "config.json" and path.is_file()


def _names_a_file(path: Path) -> bool:
    """Whether a file was meant that is not there: no model's name ends like one."""
    return path.suffix.lower() in _FILES and not path.exists()


def read_document(source: str) -> Document:
    """Read a request from a file, or from stdin where `source` is `-`.

    Raises:
        InvalidRequestError, InvalidJsonError: there is nothing to read, or it is no JSON object.
    """
    from app import strictjson

    try:
        body = sys.stdin.buffer.read(_LARGEST_DOCUMENT_BYTES) if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise _bad("request", f"cannot read {source}: {error.strerror}; give a JSON file, or - for stdin") from None
    document = strictjson.loads(body)
    if not isinstance(document, dict):
        raise _bad("request", "must be a JSON object")
    return Document(document)


def _put(document: Document, path: str, value: object) -> None:
    section, _, name = path.rpartition(".")
    if not section:
        is_file = name == "deepspeed" and Path(str(value)).suffix == ".json"
        document[name] = read_document(str(value)) if is_file else value
        return
    inside = document.get(section)
    inside = dict(inside) if isinstance(inside, dict) else {}
    if section == "quantization":
        inside = _quantization(inside, name, value)
    else:
        inside[name] = _converted(name, value)
    document[section] = inside


def _quantization(inside: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    if name == "bnb_4bit_quant_type" and value in _OTHER_STORAGE:
        return dict(_OTHER_STORAGE[str(value)])
    in_4bit = {"load_in_4bit": True, **_CHAPTER}
    otherwise = inside.get("load_in_8bit") or inside.get("quant_method", "bitsandbytes") != "bitsandbytes"
    if name == "bnb_4bit_quant_type" and otherwise:
        return {**in_4bit, name: value}
    return {**(inside or in_4bit), name: value}


def _converted(name: str, value: object) -> object:
    if name == "optim_target_modules" and value not in {"all-linear", "linear-names"}:
        return [part.strip() for part in str(value).split(",") if part.strip()]
    if isinstance(value, str) and name in {"target_modules", *(option.name for option in LORA_OPTIONS)}:
        from app.forms.fields import BY_NAME

        try:
            return BY_NAME[name].read(value)
        except ValueError as error:
            raise _bad(f"lora.{name}", str(error)) from None
    if name == "total_memory_bytes":
        from planner.units import parse_size_bytes

        try:
            return parse_size_bytes(str(value))
        except ValueError as error:
            raise _bad("--memory", str(error)) from None
    return value


def _bad(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError("The request cannot be read.", [FieldProblem(field, message)])


def _argument(name: str, text: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[str | None, typer.Argument(help=text, show_default=False)],
    )


def _option(name: str, option: str, kind: type, text: str, metavar: str | None) -> inspect.Parameter:
    described = typer.Option(option, help=text, metavar=metavar, show_default=False)
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if kind is not bool else False,
        annotation=Annotated[kind | None if kind is not bool else bool, described],
    )
