"""`fitproof inference`: how much context for how many users? Exits as `fitproof plan` does."""

from typing import Annotated

import typer

from app.cli.errors import EXIT_BY_VERDICT


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("inference")(inference)


def inference(  # noqa: PLR0913, PLR0917 (each is an option of the command)
    model: Annotated[str, typer.Argument(help="Catalogue name, hub id, folder or config.json.")],
    card: Annotated[str | None, typer.Argument(help="Catalogue name: \"4090\"; or here.")] = None,
    gpu: Annotated[str | None, typer.Option(help="The card, as the second argument names it.")] = None,
    engine: Annotated[str | None, typer.Option(help="Who runs it.", metavar="transformers|vllm|llama.cpp")] = None,
    context: Annotated[int | None, typer.Option(help="Tokens of prompt and answer.")] = None,
    new: Annotated[int | None, typer.Option(help="Tokens of the answer.")] = None,
    batch: Annotated[int | None, typer.Option(help="Sequences at a time.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Weights and cache.", metavar="bfloat16|float16")] = None,
    quant_type: Annotated[str | None, typer.Option(help="Storage of the weights.", metavar="nf4|fp4|int8")] = None,
    rank: Annotated[int | None, typer.Option(help="An unmerged LoRA adapter of this rank.")] = None,
    cache: Annotated[str | None, typer.Option(help="Cache of vLLM, llama.cpp.", metavar="fp8|q8_0|q4_0")] = None,
    cache_implementation: Annotated[
        str | None, typer.Option(help="Cache of transformers.", metavar="dynamic|offloaded|quantized")
    ] = None,
    cache_config: Annotated[
        str | None, typer.Option(help="Of a quantized cache.", metavar="backend=hqq,nbits=2,...")
    ] = None,
    gguf: Annotated[str | None, typer.Option(help="llama.cpp's kind of file.", metavar="Q4_K_M|Q8_0|...")] = None,
    share: Annotated[float | None, typer.Option("--gpu-memory-utilization", help="vLLM's share of the card.")] = None,
    attention: Annotated[str | None, typer.Option(help="Attention.", metavar="sdpa|eager|flash_attention_2")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's document.")] = False,
) -> None:
    """How much context for how many users on this card? Exits 0 fits, 1 does not fit, 2 bad input, 3 tight."""
    from app.cli import local
    from app.cli.flags import one_card, with_the_card_here
    from app.cli.served import show
    from app.cli.terminal import print_json
    from app.serving import QUANTIZATIONS
    from app.serving import cache_config as read_cache_config
    from planner.errors import FieldProblem, InvalidRequestError

    if quant_type and quant_type not in QUANTIZATIONS:
        fix = f"write {', '.join(QUANTIZATIONS)}; got {quant_type}"
        raise InvalidRequestError("The request cannot be read.", [FieldProblem("--quant-type", fix)])
    try:
        written = None if cache_config is None else read_cache_config(cache_config)
    except ValueError as error:
        raise InvalidRequestError("The request cannot be read.", [FieldProblem("--cache-config", str(error))]) from None
    given = {
        "model": model, "gpu": one_card(card, gpu), "engine": engine, "context": context, "max_new_tokens": new,
        "batch": batch, "dtype": dtype, "quantization": QUANTIZATIONS.get(quant_type or ""),
        "lora": {"r": rank} if rank is not None else None, "attn_implementation": attention,
        "kv_cache_dtype": cache, "cache_implementation": cache_implementation,
        "cache_config": written, "gguf": gguf, "gpu_memory_utilization": share,
    }  # fmt: skip
    document = with_the_card_here({name: value for name, value in given.items() if value is not None})
    answer = local.inference(document)
    if as_json:
        print_json(answer)
    else:
        show(answer)
    raise typer.Exit(EXIT_BY_VERDICT[answer["verdict"]])
