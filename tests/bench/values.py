"""`python -m tests.bench.values`: CPU seconds of a TinyLlama step on a virtual card, without and with true values."""

import subprocess
import sys

PROGRAM = """
import sys, time
from planner.probe.card.preload import insert_cards
from planner.probe.card.spec import cards_of
insert_cards(cards_of(["rtx-4090"], None))
import torch
from transformers import LlamaConfig, LlamaForCausalLM
if sys.argv[1] == "with":
    import planner.probe.values
    planner.probe.values.install()
config = LlamaConfig(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
    num_key_value_heads=4, vocab_size=32000, use_cache=False)
with torch.device("cuda"):
    model = LlamaForCausalLM(config).to(torch.bfloat16)
model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters())
ids = torch.randint(0, 32000, (2, 1024)).cuda()
mask = torch.ones_like(ids)
mask[1, :100] = 0
steps = []
for _ in range(5):
    start = time.process_time()
    model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    steps.append(time.process_time() - start)
print(min(steps), time.process_time(), torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
"""


def _measure(values: str) -> tuple[float, float, int, int]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, values], capture_output=True, text=True, check=True)
    step, whole, allocated, reserved = run.stdout.split()
    return float(step), float(whole), int(allocated), int(reserved)


def main() -> None:
    """Print the two runs and what the rules add to a run of three steps, imports included."""
    without, rules = _measure("without"), _measure("with")
    print("values   step s  run s  allocated  reserved")
    for name, (step, whole, allocated, reserved) in (("noise", without), ("true", rules)):
        print(f"{name:7} {step:7.3f} {whole:6.2f} {allocated:>10} {reserved:>9}")
    added = 3 * (rules[0] - without[0])
    whole = without[1] - 2 * without[0]
    print(f"three steps with imports: {whole:.2f} s, the rules add {added:.2f} s ({added / whole:.1%})")


if __name__ == "__main__":
    main()
