"""Options of SFTConfig and `TrainingArguments` that move bytes: how a batch is laid out, and evaluation between steps.

Source: trl 1.16 trainer/sft_config.py and sft_trainer.py SFTTrainer.__init__ ("Data collator"); transformers 5.23
training_args.py.
"""

from typing import Annotated

from pydantic import Field, StrictBool, StrictInt

from planner.request.objective import ObjectiveFields


class OptionFields(ObjectiveFields):
    """`packing`: documents lie one after another in rows of max_length tokens, and the rows of a batch in one, with
    position ids in place of an attention mask: TRL's strategies bfd and bfd_split, which are padding-free.

    `per_device_eval_batch_size`: sequences that are evaluated at a time between training steps; None evaluates nothing
    (eval_strategy "no"). TrainingArguments' own default, once there is a strategy, is 8.
    """

    packing: StrictBool = False
    per_device_eval_batch_size: Annotated[StrictInt, Field(ge=1, le=65_536)] | None = None

    def check_options(self, stack: object, *, padded: bool) -> None:
        """Hold the options against the rest of the request.

        Raises:
            ValueError: names the field and the fix.
        """
        problem = ""
        if self.packing and padded:
            problem = "training.packing: a packed row has no padding; drop it, or padded"
        elif self.packing and self.objective != "sft":
            problem = f"training.packing: TRL packs for sft, not for {self.objective}; drop it"
        elif self.packing and stack == "unsloth":
            problem = "training.packing: Unsloth packs by code of its own, which is not planned; drop it"
        if problem:
            raise ValueError(problem)
