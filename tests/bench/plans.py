"""One plan in process, with advice, the heat map's worth of plans, and the whole catalogue on all cards."""

import time

from planner import plan
from planner.catalog import search_gpus, search_models
from planner.errors import FitproofError
from planner.request.schema import Request
from tests.bench.timing import median_seconds, report

MODELS = ("meta-llama/Llama-3.1-8B", "mistralai/Mistral-7B-v0.1", "Qwen/Qwen2.5-7B", "Qwen/Qwen2.5-14B")

WHOLE = {
    "meta-llama/Llama-2-7b-hf": "at most 1.2 ms",
    "meta-llama/Llama-2-70b-hf": "at most 2 ms",
    "deepseek-ai/DeepSeek-V3": "",
}


def varied(model: str, index: int) -> Request:
    """A request unlike its neighbours, so that nothing is answered from a cache of whole plans."""
    training = {"max_length": 512 + 16 * index, "per_device_train_batch_size": 1 + index % 4}
    return Request.parse({"model": model, "gpu": "rtx-4090", "training": training})


def _on_a_large_card(model: str, index: int) -> Request:
    """Where it fits, so that no advice is looked for."""
    return Request.parse({"model": model, "gpu": "h200", "training": {"max_length": 512 + 16 * index}})


def run() -> None:
    """Print the planner's own speed."""
    requests = iter([varied(MODELS[index % len(MODELS)], index) for index in range(500)])
    for model, target in WHOLE.items():
        questions = iter([_on_a_large_card(model, index) for index in range(100)])
        seconds = median_seconds(lambda asked=questions: plan(next(asked)).to_dict(), 60, 20)
        report(f"whole new answer, {model}", f"{1e3 * seconds:.2f} ms", target)
    report("one plan, median", f"{1e3 * median_seconds(lambda: plan(next(requests)), 400, 20):.2f} ms", "under 1 ms")
    _matrix()


def _matrix() -> None:
    start = time.perf_counter()
    planned = unknown = 0
    cards = [card.gpu.id for card in search_gpus() if card.gpu]
    for model in search_models():
        for card in cards:
            try:
                plan(Request.parse({"model": model.id, "gpu": card}))
                planned += 1
            except FitproofError:
                unknown += 1
    seconds = time.perf_counter() - start
    report(f"catalogue x cards: {planned} plans, {unknown} not known", f"{seconds:.1f} s", "")
