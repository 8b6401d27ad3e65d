"""A training script's Python, or a notebook's, as settings. It is parsed and never run: what stands as a literal, or
under a name that is given one literal, is read; of the rest the source is told, so that nothing is passed over.

Read are the calls that make a run: BitsAndBytesConfig, LoraConfig and its like, `from_pretrained`, TrainingArguments
and TRL's configurations, TRL's trainers, Unsloth's loaders. Settings come out in TRL's words (dialects/trl.py), filled
up with what these calls do where a script leaves an argument out: bitsandbytes 0.50 through transformers 5.23
(utils/quantization_config.py), peft 0.21 (tuners/lora/config.py), unsloth (models/loader.py, FastLanguageModel).
"""

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.imports.adapters.peft_methods import CONFIGS
from app.imports.effects import Effect
from app.imports.sources.command_line import TRL_TRAININGS
from app.imports.sources.python_literals import NoLiteralError, literal, literal_names
from app.imports.sources.python_model_changes import model_changes

# What a Python program has and no configuration.
_PROGRAM = re.compile(r"^(?:from [\w.]+ import |import [\w.]+|def \w+\(|class \w+|[\w.]+\s*=\s*\w+\()", re.MULTILINE)
# Lines of a notebook that are for the shell or the notebook itself.
_MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)
_LORA = {
    "r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "use_dora": "use_dora",
    "target_modules": "lora_target_modules", "use_rslora": "use_rslora", "modules_to_save": "lora_modules_to_save",
    "target_parameters": "lora_target_parameters", "use_gradient_checkpointing": "gradient_checkpointing",
    "vera_dropout": "lora_dropout",
}  # fmt: skip
# Arguments of LoraConfig and get_peft_model that no tensor comes from.
_LORA_WITHOUT_EFFECT = {"task_type", "inference_mode", "random_state", "loftq_config", "fan_in_fan_out", "model"}
_LOADER = {
    "pretrained_model_name_or_path": "model_name_or_path", "model_name": "model_name_or_path",
    "max_seq_length": "max_length",
}  # fmt: skip
_LOADED = {
    "model_name_or_path", "dtype", "torch_dtype", "attn_implementation", "load_in_4bit", "load_in_8bit",
    "max_length", "full_finetuning", "qat_scheme",
}  # fmt: skip
_UNSLOTH_LOADERS = {"FastLanguageModel", "FastModel", "FastVisionModel"}
# Of a trainer: objects that other calls make, and what says nothing of memory.
_OBJECTS = {
    "model", "args", "train_dataset", "eval_dataset", "tokenizer", "processing_class", "data_collator", "peft_config",
    "compute_metrics", "callbacks", "formatting_func", "optimizers", "preprocess_logits_for_metrics", "reward_funcs",
}  # fmt: skip


# torchao's ways to fake-quantize a model's layers: quantize_(model, QATConfig(…)), and quantizers that prepare one.
_QAT = re.compile(r"QATConfig|IntXQuantizationAwareTrainingConfig|\w*QATQuantizer")
# Trainers of TRL's that have no command.
_WITHOUT_A_COMMAND = {"onlinedpo", "xpo"}


class NotReadableError(ValueError):
    """The program cannot be read; says why and what to do."""


@dataclass(slots=True)
class Program:
    """`settings` in TRL's words. By source text: `unread`, arguments that are no literals; `effects`, model changes."""

    settings: dict[str, Any] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    effects: dict[str, Effect] = field(default_factory=dict)

    def put(self, key: str, value: ast.expr, names: Mapping[str, Any]) -> None:
        """Read `value`; the first call that says a key wins."""
        if key in self.settings or key in self.unread:
            return
        try:
            self.settings[key] = literal(value, names)
        except NoLiteralError:
            self.unread[key] = ast.unparse(value)[:80]

    def default(self, **values: Any) -> None:
        """What a call does where the script leaves an argument out."""
        for key, value in values.items():
            if key not in self.settings and key not in self.unread:
                self.settings[key] = value


def source_of(text: str) -> str | None:
    """The Python in `text`: itself, or a notebook's code cells; None where it is neither."""
    if text.lstrip().startswith("{") and '"cells"' in text:
        try:
            cells = json.loads(text)["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return _MAGIC.sub("", "\n".join(code))
    return _MAGIC.sub("", text) if _PROGRAM.search(text) else None


def read_program(source: str) -> Program:
    """Read the run that `source` makes.

    Raises:
        NotReadableError: it is no Python that can be parsed, or makes no run of a trainer that is read here.
    """
    try:
        tree = ast.parse(source)
        program = _run_of(tree)
    except SyntaxError as error:
        raise NotReadableError(f"is Python that does not parse: {error.msg}, line {error.lineno}") from None
    except (RecursionError, MemoryError, SystemError, ValueError):  # SystemError: python/cpython#106905
        raise NotReadableError("is Python too deeply nested to be read") from None
    if "command" not in program.settings:
        raise NotReadableError(
            "is a Python program without a Trainer whose arguments could be read; it is never run here. Write them as "
            "`name: value` lines, or let it run on a virtual card: fitproof dry-run --gpu CARD -- python FILE"
        )
    has_adapters = "lora_r" in program.settings or "lora_r" in program.unread
    if program.settings["command"] != "python":
        program.default(use_peft=has_adapters)
    changes = model_changes(tree, has_adapters=has_adapters)
    program.settings |= changes.settings
    program.unread |= changes.unread
    program.effects = changes.effects
    return program


def _run_of(tree: ast.Module) -> Program:
    names, program = literal_names(tree), Program()
    for call, name, owner in _calls(tree):
        arguments = _arguments(call, names)
        if name == "BitsAndBytesConfig":
            _quantized(program, arguments, names)
        elif name in CONFIGS:
            _adapted(program, arguments, names)
            kind, rank = CONFIGS[name]
            program.default(peft_type=kind, lora_r=rank or 8, lora_alpha=8, lora_dropout=0.0)
        elif _QAT.fullmatch(name):
            _fake_quantized(program, call, arguments)
        elif name == "get_peft_model" and {"r", "qat_scheme"} & arguments.keys():
            _adapted(program, arguments, names)
            program.default(lora_r=16, lora_alpha=16, lora_dropout=0.0)
        elif name == "from_pretrained" and _is_a_model(owner):
            _loaded(program, call, arguments, names, owner)
        elif name == "gradient_checkpointing_enable":
            program.default(gradient_checkpointing=True)
        elif name == "prepare_model_for_kbit_training":
            program.default(prepare_model_for_kbit_training=True, gradient_checkpointing=True)
        elif name.endswith(("TrainingArguments", "Config")) and _kind(name) is not None:
            _trained(program, name, arguments, names)
        elif name.endswith("Trainer") and _kind(name) is not None:
            if isinstance(given := arguments.get("model"), ast.expr):
                _named_model(program, given, names)
            rest = {key: value for key, value in arguments.items() if key not in _OBJECTS}
            rest |= _reward_models(arguments.get("reward_funcs"), names)
            _trained(program, name, rest, names)
    return program


def _reward_models(given: ast.expr | None, names: Mapping[str, Any]) -> dict[str, ast.expr]:
    """Of reward functions those that are models' names: the first that the trainer loads beside the one it trains."""
    parts = given.elts if isinstance(given, ast.List | ast.Tuple) else [given]
    said = [names.get(part.id) if isinstance(part, ast.Name) else getattr(part, "value", None) for part in parts]
    name = next((one for one in said if isinstance(one, str)), None)
    return {} if name is None else {"reward_model_name_or_path": ast.Constant(name)}


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str, str]]:
    """Calls in the order of their lines: the called name, and what it is an attribute of."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(call.func, ast.Name):
            yield call, call.func.id, ""
        elif isinstance(call.func, ast.Attribute):
            owner = call.func.value
            yield call, call.func.attr, getattr(owner, "id", getattr(owner, "attr", ""))


def _arguments(call: ast.Call, names: Mapping[str, Any]) -> dict[str, ast.expr]:
    """Keyword arguments; `**NAME` of a dictionary that stands in the script as a literal is opened."""
    found: dict[str, ast.expr] = {}
    for keyword in call.keywords:
        if keyword.arg is not None:
            found[keyword.arg] = keyword.value
        elif isinstance(keyword.value, ast.Name) and isinstance(opened := names.get(keyword.value.id), dict):
            found |= {str(key): ast.Constant(value) for key, value in opened.items()}
        else:
            found[f"**{ast.unparse(keyword.value)[:60]}"] = keyword.value
    return found


def _quantized(program: Program, arguments: Mapping[str, ast.expr], names: Mapping[str, Any]) -> None:
    for key, value in arguments.items():
        program.put(key, value, names)
    if program.settings.get("load_in_4bit"):
        program.default(
            bnb_4bit_quant_type="fp4", bnb_4bit_use_double_quant=False, bnb_4bit_compute_dtype="float32"
        )


def _fake_quantized(program: Program, call: ast.Call, arguments: Mapping[str, ast.expr]) -> None:
    """Quantization-aware training, as it stands; converting what is trained comes after the training."""
    step = arguments.get("step")
    if not (isinstance(step, ast.Constant) and step.value == "convert"):
        program.default(qat=ast.unparse(call)[:80])


def _adapted(program: Program, arguments: Mapping[str, ast.expr], names: Mapping[str, Any]) -> None:
    for key, value in arguments.items():
        if key not in _LORA_WITHOUT_EFFECT:
            program.put(_LORA.get(key, key), value, names)


def _loaded(
    program: Program, call: ast.Call, arguments: Mapping[str, ast.expr], names: Mapping[str, Any], owner: str
) -> None:
    """The first model that is loaded is the one that is trained."""
    if "model_name_or_path" in program.settings or "model_name_or_path" in program.unread:
        return
    if call.args:
        program.put("model_name_or_path", call.args[0], names)
    for key, value in arguments.items():
        if (known := _LOADER.get(key, key)) in _LOADED or key.startswith("**"):
            program.put(known, value, names)
    for key in ("device_map", "max_memory"):
        _placed(program, key, arguments, names)
    if owner in _UNSLOTH_LOADERS:
        program.default(load_in_4bit=True, max_length=2048)
        if program.settings.pop("full_finetuning", False) or program.settings.get("load_in_8bit"):
            program.settings["load_in_4bit"] = False
        if program.settings.get("load_in_4bit"):
            program.default(
                bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"
            )
        program.default(unsloth=True)
    for key in ("dtype", "torch_dtype"):
        if program.settings.get(key, "") is None:
            del program.settings[key]
    if not {"dtype", "torch_dtype"} & {*program.settings, *program.unread}:
        program.default(dtype="auto")


def _placed(program: Program, key: str, arguments: Mapping[str, ast.expr], names: Mapping[str, Any]) -> None:
    """Where the model goes; as the source has it where it is no literal, which matters beside several cards.

    What each process works out for itself, such as {"": local_rank}, has a card for each.
    """
    if key not in arguments or _is_of_each_process(arguments[key]):
        return
    try:
        found = literal(arguments[key], names)
    except NoLiteralError:
        found = ast.unparse(arguments[key])[:80]
    if found is not None and (key == "max_memory" or not _is_one_device(found)):
        program.default(**{key: found})


def _is_of_each_process(placed: ast.expr) -> bool:
    """Whether the map has the whole model on one device, or is TRL's (trl/trainer/utils.py, get_kbit_device_map)."""
    if isinstance(placed, ast.Dict):
        return [isinstance(key, ast.Constant) and key.value for key in placed.keys] == [""]
    return "get_kbit_device_map" in ast.unparse(placed)


def _is_one_device(found: Any) -> bool:
    """`"cuda"`, `"cuda:0"`, `0`: from_pretrained's words for a single one."""
    return isinstance(found, int) or (isinstance(found, str) and found.split(":")[0] in {"cuda", "cpu", "mps", "xpu"})


def _named_model(program: Program, given: ast.expr, names: Mapping[str, Any]) -> None:
    """A trainer that is given a name loads the model itself."""
    try:
        name = literal(given, names)
    except NoLiteralError:
        return
    if isinstance(name, str):
        program.default(model_name_or_path=name)


def _trained(program: Program, name: str, arguments: Mapping[str, ast.expr], names: Mapping[str, Any]) -> None:
    kind = _kind(name)
    if program.settings.get("command", "python") == "python":
        program.settings["command"] = f"trl {kind}" if kind else "python"
    for key, value in arguments.items():
        if key == "ref_model" and not (isinstance(value, ast.Constant) and value.value is None):
            program.default(ref_model=ast.unparse(value)[:80])
        else:
            program.put(key, value, names)


def _kind(name: str) -> str | None:
    """`sft` of SFTConfig and SFTTrainer, "" of transformers' own, None of what trains nothing."""
    stem = re.sub(r"(?:Seq2Seq)?(?:TrainingArguments|Trainer|Config)$", "", name).removeprefix("Unsloth")
    if not stem:
        return "" if name != "Config" else None
    kind = stem.lower()
    return kind if kind in TRL_TRAININGS | _WITHOUT_A_COMMAND else None


def _is_a_model(owner: str) -> bool:
    is_another = owner.endswith(("Tokenizer", "Processor", "Config", "PeftModel")) or "Tokenizer" in owner
    return bool(owner) and owner[0].isupper() and not is_another
