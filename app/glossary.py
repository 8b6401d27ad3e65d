"""The words of the pages, each in one or two sentences: shown by hover where they stand, and together on a page."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """One word. `id` is its place on the glossary's page."""

    id: str
    name: str
    meaning: str


GROUPS: dict[str, tuple[Term, ...]] = {
    "The run": (
        Term("micro-batch", "Micro-batch", "Sequences that go through the model at once on one card: "
             "per_device_train_batch_size. Memory grows with it."),
        Term("accumulation", "Gradient accumulation", "Micro-batches whose gradients are added up before the optimizer "
             "steps. It makes the batch larger without more memory."),
        Term("length", "Length", "Tokens of one sequence after truncation or packing: max_length."),
        Term("rank", "LoRA rank", "The inner dimension r of the two small matrices that LoRA trains beside a frozen "
             "weight. Memory for adapters grows with it."),
        Term("checkpointing", "Checkpointing", "Gradient checkpointing: the forward pass keeps only each layer’s input "
             "and computes the rest again in the backward pass. Much less memory for about a third more time."),
        Term("qlora", "QLoRA", "LoRA adapters trained on a base model that is kept in 4 bits."),
        Term("nf4", "NF4", "A 4-bit format whose sixteen values lie where normally distributed weights are."),
        Term("double-quantization", "Double quantization", "The scales of 4-bit weights quantized once more: three "
             "eighths of a bit less for every weight."),
        Term("stack", "Training stack", "What calls the model: a trainer, or your own loop. It decides which tensors "
             "are kept in which dtype, and so half of the memory."),
        Term("kbit", "k-bit preparation", "PEFT’s prepare_model_for_kbit_training: it turns what was not quantized to "
             "float32, which costs memory."),
        Term("fsdp", "FSDP", "Each card keeps a shard of the parameters, gradients and optimizer state, and gathers a "
             "layer when it is used. ZeRO-3 is DeepSpeed’s word for it."),
    ),
    "Where memory goes": (
        Term("weights", "Weights", "The model itself, in the form it is kept in while it trains."),
        Term("activations", "Activations", "What the forward pass keeps for the backward pass."),
        Term("logits", "Logits", "A score for each word of the vocabulary at each token. Often the largest tensor of "
             "a step, for a vocabulary has 32,000 to 256,000 words."),
        Term("optimizer-state", "Optimizer state", "What the optimizer remembers of each trained number: Adam’s "
             "two moments."),
        Term("workspace", "Workspace", "What a kernel needs only while it runs."),
        Term("allocated", "Allocated", "Bytes of live tensors: torch.cuda.max_memory_allocated()."),
        Term("reserved", "Reserved", "What torch’s allocator holds of the card: allocated bytes and what it keeps for "
             "later. It is the reserved memory that runs out."),
        Term("outside", "Outside torch’s tensors", "The CUDA context, libraries, and what the allocator keeps unused."),
        Term("usable", "Usable", "What the driver gives torch of a card, some per cent less than what the box says."),
        Term("expandable-segments", "Expandable segments", "An allocator setting that wastes less: "
             "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True."),
    ),
    "What an answer says": (
        Term("fits", "Fits", "Even the high end of the range is below what is usable."),
        Term("tight", "Tight", "What is usable lies inside the range: likely or not, it says which way it leans."),
        Term("does-not-fit", "Does not fit", "Even the low end of the range is above what is usable."),
        Term("range", "Range", "From the low to the high end of what comparable runs took beside the formula."),
        Term("exact", "Exact", "Equal to the byte to torch’s own record, in every dry run of this family of models "
             "with these settings."),
        Term("compared", "Compared", "Such dry runs are on record, and not all were equal to the byte; the answer says "
             "how far they were off."),
        Term("not-recorded", "Not recorded", "The formula’s figure; no dry run of this family with these settings is "
             "on record."),
        Term("modelled", "Modelled", "A figure of what no such record covers: loading, "
             "several cards, the allocator, other programs."),
        Term("measured", "Measured", "A figure that somebody read off a real card."),
        Term("allowance", "Allowance", "Room left for what no formula knows, always a line of its own."),
        Term("dry-run", "Dry run", "The real training step of the real CUDA stack on a virtual card: memory is "
             "counted, kernels do nothing. No GPU is needed."),
        Term("probe", "Probe", "The same step with real weights on a real card."),
        Term("chapter", "412: QLoRA", "The textbook chapter whose numbers, 0.5 N for weights and N/64 for constants, "
             "stand beside ours."),
    ),
}  # fmt: skip
MEANINGS = {term.id: term.meaning for terms in GROUPS.values() for term in terms}
