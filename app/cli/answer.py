"""A plan in the terminal: the verdict first, then the card filling up, then the ledger."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from app.cli.terminal import console, table
from planner.request.objective import PAIRED
from planner.request.schema import Request
from planner.request.unsloth import UNSLOTH
from planner.units import GIB, MIB, format_gib

_BAR_CELLS = 60
VERDICTS = {
    "fits": ("Fits", "bold green"),
    "tight": ("Tight", "bold yellow"),
    "does_not_fit": ("Does not fit", "bold red"),
}
# Told apart by letter as well as by colour, so that the bar reads in any terminal.
_CAUSES = {
    "weights": ("W", "blue"),
    "adapters": ("A", "cyan"),
    "gradients": ("G", "magenta"),
    "optimizer": ("O", "bright_magenta"),
    "activations": ("S", "green"),
    "logits": ("L", "yellow"),
    "workspace": ("K", "bright_black"),
    "runtime": ("R", "white"),
}


def show(request: Request, answer: dict[str, Any], *, planned: str = "", every_line: bool = False) -> None:
    """Print `answer`, the document of `POST /api/v1/plans`; with `every_line`, formulas and what is not at the peak.

    `planned` says what the verdict is about where the answer names something that was not planned.
    """
    out = console()
    _verdict(out, request, answer, planned)
    _bar(out, answer)
    _ledger(out, answer, every_line=every_line)
    _moments(out, answer)
    _speed(out, answer["throughput"], request)
    _notes(out, answer)


def _verdict(out: Console, request: Request, answer: dict[str, Any], planned: str) -> None:
    word, style = VERDICTS[answer["verdict"]]
    required, spare = answer["required_bytes"], answer["headroom_bytes"]
    # Torch keeps what it frees up to all that the card has, so a run that fits may leave nothing.
    filled = 0 <= spare < MIB and answer["verdict"] != "does_not_fit"
    rest = f"{format_gib(spare)} to spare" if spare >= 0 else f"{format_gib(-spare)} short"
    rest = "torch fills the card" if filled else rest
    beside = f" ({answer['model']['beside']})" if answer["model"]["beside"] else ""
    cards = answer["cards"]
    several = f"{cards['count']} x " if cards["count"] > 1 else ""
    if request.cards:
        several = f"{' + '.join(request.cards)}, the fullest "
    about = f"{answer['model']['id']}{beside} on {several}{answer['gpu']['name']}"
    if planned and answer["verdict"] != "does_not_fit":
        word = "Fits only as planned here" if spare >= 0 else "Not decided"
    out.print(Text.assemble((word, style), f": {about}{f', planned {planned}' if planned else ''}"))
    each = " on each card" if several and not request.cards else ""
    out.print(
        f"needs {format_gib(required['likely'])} ({format_gib(required['low'])} to {format_gib(required['high'])}) "
        f"of {format_gib(answer['usable_bytes'])} usable{each}: {rest}"
    )
    out.print(Text(_recipe(request, cards["strategy"]), style="dim"))
    for number, card in enumerate(cards["each"] or ()):
        fullest = ", the fullest" if number == cards["worst_rank"] else ""
        about = f"card {number}, {card['gpu']}: {card['layers']} layers, {_size(card['peak_allocated_bytes'])}"
        out.print(Text(f"{about} allocated{fullest}", style="dim"))
    offloads = cards["strategy"] != "single" or request.stack == UNSLOTH or request.training.activation_offloading
    if answer["host_bytes"] and offloads:
        each = " for each process" if cards["strategy"] not in {"single", "device_map"} else ""
        out.print(f"and {_size(answer['host_bytes'])} of host memory{each}")
    if answer["recorded"]:
        out.print(Text(f"{answer['recorded']['sentence']}.", style="dim"))
    for item in answer["not_planned"]:
        least = f"; at least {_size(item['at_least_bytes'])}, counted here" if "at_least_bytes" in item else ""
        out.print(Text(f"Not planned: {item['key']}: {item['why']}{least}", style="yellow"))
    if answer["verdict"] == "tight" and not planned:
        out.print("Too close to call by arithmetic; settle it with: fitproof probe")
    out.print()


def _speed(out: Console, found: dict[str, Any], request: Request) -> None:
    rate = found["tokens_per_second"]
    if rate is None:
        out.print(Text(f"Tokens per second: not known: {found['evidence']}", style="dim"))
        return
    span = f"{rate['low']:,} to {rate['high']:,}" if rate["low"] else f"at most {rate['high']:,}"
    out.print(Text(f"About {rate['likely']:,} tokens per second ({span}); {found['evidence']}", style="dim"))
    if found["hours"]:
        out.print(f"{request.tokens:,} tokens: about {_span(found['hours'], 1, ' hours')}")
    if found["cost"]:
        price = request.gpus * (request.price_per_hour or 0)
        out.print(f"at {price:,.2f} an hour: about {_span(found['cost'], 2)}")


def _span(found: dict[str, Any], digits: int, unit: str = "") -> str:
    """`8.7 hours (6.9 to 10.2)`, or `(6.9, or more)` where no published run is near."""
    end = ", or more" if found["high"] is None else f" to {found['high']:,.{digits}f}"
    return f"{found['likely']:,.{digits}f}{unit} ({found['low']:,.{digits}f}{end})"


_CHECKPOINTING = {True: "checkpointing", False: "no checkpointing", "unsloth": "checkpointing, inputs on the host"}


def _recipe(request: Request, strategy: str) -> str:
    training, lora, quantization = request.training, request.lora, request.quantization
    parts: list[str] = [request.method]
    if request.method == "qlora" and quantization:
        bits = quantization.bnb_4bit_quant_type if quantization.load_in_4bit else "int8"
        kinds = {"bitsandbytes": bits, "hqq": "int4 (hqq)", "fp8": "fp8 checkpoint"}
        packed = f"{quantization.quant_method} checkpoint, {quantization.bits} bit"
        parts.append(kinds.get(quantization.quant_method, packed))
    if request.method != "full":
        targets = lora.target_modules if isinstance(lora.target_modules, str) else ",".join(lora.target_modules)
        parts.append(f"rank {lora.r} on {targets}")
    if training.objective != "sft":
        parts.insert(0, training.objective.upper())
    each = "2 x " if training.objective in PAIRED else ""
    parts.append(f"{training.per_device_train_batch_size} x {each}{training.max_length} tokens")
    parts.append(training.optim)
    parts += ["packed"] if training.packing else []
    parts.append(_CHECKPOINTING[training.gradient_checkpointing])
    if strategy != "single":
        parts.append(_strategy(request))
    parts.append(f"stack {request.stack if isinstance(request.stack, str) else 'custom'}")
    return ", ".join(parts)


def _strategy(request: Request) -> str:
    cut = request.parallelism_config
    parts = f", sequences in {cut.parts} parts ({cut.by})" if cut and cut.by else ""
    if request.fsdp:
        return f"FSDP{request.fsdp.version}{', on the host' if request.fsdp.cpu_offload else ''}{parts}"
    if request.deepspeed:
        on_host = "cpu" in {request.deepspeed.offload_optimizer, request.deepspeed.offload_param}
        return f"ZeRO {request.deepspeed.stage}{', on the host' if on_host else ''}{parts}"
    if request.device_map:
        return f"device_map {request.device_map if isinstance(request.device_map, str) else 'by hand'}"
    return "DDP"


def _bar(out: Console, answer: dict[str, Any]) -> None:
    """Bytes at the peak by cause; `|` marks the end of the card."""
    peak, required = answer["peak_phase"], answer["required_bytes"]["likely"]
    by_cause = dict.fromkeys(_CAUSES, 0)
    for line in answer["lines"]:
        if peak in line["alive_in"]:
            by_cause[line["cause"]] += line["bytes"]
    by_cause["runtime"] += max(0, required - sum(by_cause.values()))
    scale_bytes = max(required, answer["usable_bytes"])
    bar, filled_bytes, cells = Text(), 0, 0
    for cause, (letter, style) in _CAUSES.items():
        filled_bytes += by_cause[cause]
        end = round(_BAR_CELLS * filled_bytes / scale_bytes)
        bar.append(letter * (end - cells), style=f"black on {style}")
        cells = end
    bar.append("." * (_BAR_CELLS - cells), style="dim")
    limit = round(_BAR_CELLS * answer["usable_bytes"] / scale_bytes)
    out.print(Text("[") + bar[:limit] + Text("|", style="bold") + bar[limit:] + Text("]"))
    legend = [f"{letter} {cause} {_size(by_cause[cause])}" for cause, (letter, _) in _CAUSES.items() if by_cause[cause]]
    out.print(Text("  ".join(legend), style="dim"))
    out.print()


def _ledger(out: Console, answer: dict[str, Any], *, every_line: bool) -> None:
    peak = answer["peak_phase"]
    lines = sorted(answer["lines"], key=lambda line: (peak not in line["alive_in"], -line["bytes"]))
    shown = [line for line in lines if every_line or peak in line["alive_in"]]
    made = table(f"alive at the peak ({peak})", ">bytes", ">", "evidence", *(("formula",) if every_line else ()))
    for line in shown:
        name = line["name"] if peak in line["alive_in"] else f"{line['name']} (not at the peak)"
        cells = [name, f"{line['bytes']:,}", _size(line["bytes"]), line["evidence"]]
        made.add_row(*map(escape, [*cells, line["formula"]] if every_line else cells))
    out.print(made)
    if len(shown) < len(lines):
        out.print(Text(f"{len(lines) - len(shown)} more lines are not alive then; --all shows them", style="dim"))
    out.print()


def _moments(out: Console, answer: dict[str, Any]) -> None:
    made = table("moment", ">allocated", ">")
    for phase in answer["phases"]:
        name = phase["name"] + (" <- peak" if phase["name"] == answer["peak_phase"] else "")
        made.add_row(name, f"{phase['allocated_bytes']:,}", _size(phase["allocated_bytes"]))
    out.print(made)
    textbook = answer["textbook"]
    out.print(
        "The textbook (0.5 N, N/64, 2 r (d + k)) counts "
        f"{_size(textbook['weights_bytes'])} weights, {_size(textbook['constants_bytes'])} constants, "
        f"{_size(textbook['adapters_bytes'])} adapters, and no activations."
    )


def _notes(out: Console, answer: dict[str, Any]) -> None:
    for warning in answer["warnings"]:
        out.print(Text.assemble(("Warning: ", "yellow"), warning["message"]))
    if answer["advice"]:
        out.print("\nWhat would help:")
    for advice in answer["advice"]:
        change = ", ".join(f"{key} = {value}" for key, value in advice["change"].items())
        verdict = VERDICTS[advice["verdict"]][0].lower()
        saves = f"saves {_size(advice['saves_bytes'])}, " if advice["saves_bytes"] else ""
        out.print(Text(f"  {change}: {saves}then {verdict}; {advice['cost']}"))


def _size(size_bytes: int) -> str:
    """GiB from a tenth on, MiB below."""
    return format_gib(size_bytes) if size_bytes >= GIB // 10 else f"{size_bytes / MIB:.1f} MiB"
