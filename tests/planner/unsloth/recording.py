"""Record what Unsloth's own trainer reads on a virtual card, for the formula to be held to.

    python -m tests.planner.unsloth.settings 8.9 | UNSLOTH/bin/python -m tests.planner.unsloth.recording

UNSLOTH is the folder of an environment made by `tests.gallery.environments.environment("unsloth", …)`. All settings on
stdin are of one compute capability, because Unsloth chooses kernels while it is imported. One JSON line back for each:
what was allocated when the steady step began, the worst instant of its phases, and the host memory that was pinned.
The first two steps are no steady ones: Unsloth takes its second buffer for offloaded activations in the second.
"""

import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import chdir
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.probe.card.preload import insert_cards, set_cards
from planner.probe.card.readings import read_card
from planner.probe.card.spec import card_of
from planner.probe.processes.forked import ChildFailedError, in_fork
from planner.request.schema import Request

STEPS, STEADY_FROM = 4, 2
PHASES = ("forward", "loss", "backward", "optimizer")
VERSIONS = ("torch", "transformers", "peft", "bitsandbytes", "trl", "unsloth", "unsloth_zoo")
# No telemetry, no hub, no cache of compiled code from another setting.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "UNSLOTH_DISABLE_STATISTICS": "1", "WANDB_MODE": "disabled"}


def write_model(config: dict[str, Any], folder: Path) -> None:
    """The checkpoint that a config describes, its weights a hole in the file, and a tokenizer of a few words."""
    import torch  # noqa: PLC0415  # after the card
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415

    from tests.gallery.programs.made_up import tokenizer  # noqa: PLC0415

    made = AutoConfig.for_model(**{"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, **config})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made, dtype=torch.bfloat16)
    made.architectures, made.dtype = [type(model).__name__], torch.bfloat16
    made.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not made.tie_word_embeddings:
            start, end = end, end + 2 * tensor.numel()
            header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(written)) + written)
        file.truncate(8 + len(written) + end)


def trainer_of(request: Request) -> Any:
    """Unsloth's loader, its adapters and the trainer that it patches, as its notebooks write them."""
    from datasets import Dataset  # noqa: PLC0415
    from trl import SFTConfig, SFTTrainer  # noqa: PLC0415
    from unsloth import FastLanguageModel, is_bfloat16_supported  # noqa: PLC0415

    training, lora = request.training, request.lora
    quantization = request.quantization
    model, words = FastLanguageModel.from_pretrained(
        "model",
        max_seq_length=training.max_length,
        load_in_4bit=bool(quantization and quantization.load_in_4bit),
        load_in_16bit=request.method == "lora",
        full_finetuning=request.method == "full",
        use_gradient_checkpointing=training.gradient_checkpointing,
    )
    if request.method != "full":
        model = FastLanguageModel.get_peft_model(
            model,
            r=lora.r,
            lora_alpha=lora.lora_alpha,
            lora_dropout=lora.lora_dropout,
            target_modules=list(lora.target_modules) if lora.target_modules != "all-linear" else lora.target_modules,
            use_gradient_checkpointing=training.gradient_checkpointing,
        )
    batch, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    short = training.max_length - 1 if training.padded else training.max_length
    lengths = [training.max_length if index % 2 else short for index in range(batch)] * accumulation * (STEPS + 1)
    rows = [[2 + index % 90 for index in range(length)] for length in lengths]
    return SFTTrainer(
        model=model,
        processing_class=words,
        train_dataset=Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * len(row) for row in rows]}),
        args=SFTConfig(
            output_dir="output",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            max_length=training.max_length,
            optim=training.optim,
            max_grad_norm=training.max_grad_norm,
            bf16=is_bfloat16_supported(),
            fp16=not is_bfloat16_supported(),
            max_steps=STEPS,
            save_strategy="no",
            logging_steps=1000,
            report_to="none",
            dataset_num_proc=1,
        ),
    )


def metered(trainer: Any, begin: Callable[[str], None]) -> None:
    """Let the trainer's own methods say which phase begins."""
    state = {"step": 0}

    def at(phase: str) -> None:
        begin(phase if state["step"] >= STEADY_FROM else f"first_{phase}")

    fetch, step, backward = trainer.get_batch_samples, trainer.training_step, trainer.accelerator.backward

    def get_batch_samples(*args: Any, **kwargs: Any) -> Any:
        at("forward")
        return fetch(*args, **kwargs)

    def training_step(*args: Any, **kwargs: Any) -> Any:
        at("forward")
        result = step(*args, **kwargs)
        if trainer.accelerator.sync_gradients:
            at("optimizer")
            state["step"] += 1
        return result

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        at("backward")
        return backward(*args, **kwargs)

    trainer.get_batch_samples, trainer.training_step = get_batch_samples, training_step
    trainer.accelerator.backward = run_backward
    decoder = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    decoder.get_decoder().register_forward_hook(lambda *_: at("loss"))


def readings_of(document: dict[str, Any]) -> dict[str, Any]:
    """Train for a few steps on the card that this process has; see `record`."""
    import torch  # noqa: PLC0415

    from planner.probe.meters.history import HistoryMeter  # noqa: PLC0415

    request = Request.parse(document)
    set_cards([card_of(request.gpu)])
    torch.nn.init.kaiming_uniform_ = lambda tensor, *_, **__: tensor
    with tempfile.TemporaryDirectory(prefix="fitproof-unsloth-") as empty, chdir(empty):
        write_model(request.model, Path("model"))
        # What the import left on the card, cuBLAS's first workspace among it, is there in life, too.
        before_bytes = torch.cuda.memory_allocated()
        with HistoryMeter() as meter:
            meter.begin("load")
            trainer = trainer_of(request)
            metered(trainer, meter.begin)
            trainer.train()
        readings = meter.phases
    return {
        "static_bytes": before_bytes + readings["first_optimizer"].resident_bytes,
        "phases": {phase: before_bytes + readings[phase].peak_allocated_bytes for phase in PHASES},
        "pinned_bytes": read_card().pinned.peak_bytes,
    }


def import_unsloth(card: Any) -> None:
    """Import Unsloth on this card. Forks of this process then have the card to themselves."""
    os.environ.update(ENVIRONMENT)
    place = find_spec("torch")
    insert_cards([card], site=Path(str(place and place.origin)).parents[1])
    import torch  # noqa: PLC0415

    from planner.probe.values import install  # noqa: PLC0415

    torch.set_num_threads(1)
    install(0, "even")
    # Its import asks torch about a gradient on the host, and lives without the answer. The engine's threads, once
    # started, survive no fork.
    engine, torch.autograd._engine_run_backward = torch.autograd._engine_run_backward, _no_engine
    import unsloth  # noqa: F401, PLC0415  # before trl, whose trainers it replaces

    torch.autograd._engine_run_backward = engine
    # A virtual card survives a fork; a real one does not, and torch refuses.
    torch.cuda._is_in_bad_fork = lambda: False


def _no_engine(*_: Any, **__: Any) -> None:
    msg = "not while Unsloth is imported"
    raise RuntimeError(msg)


def record(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """One setting, in a fork."""
    return {"name": name, "request": document, **in_fork(lambda: readings_of(document))}


def main() -> int:
    """Record every setting on stdin."""
    settings = [json.loads(line) for line in sys.stdin]
    out, sys.stdout = sys.stdout, sys.stderr  # Unsloth prints
    import_unsloth(card_of(Request.parse(settings[0]["request"]).gpu))
    out.write(json.dumps({"versions": {name: version(name) for name in VERSIONS}}) + "\n")
    for setting in settings:
        try:
            result = record(setting["name"], setting["request"])
        except ChildFailedError as error:
            result = {**setting, "error": " ".join(str(error).split())[:300]}
        out.write(json.dumps(result) + "\n")
        out.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
