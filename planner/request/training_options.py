"""Options of TRL's SFTConfig beside `TrainingArguments` that move bytes: how a batch is laid out.

Source: trl 1.16 trainer/sft_config.py and sft_trainer.py SFTTrainer.__init__ ("Data collator").
"""

from pydantic import StrictBool

from planner.request.objective import ObjectiveFields


class OptionFields(ObjectiveFields):
    """`packing`: documents lie one after another in rows of max_length tokens, and the rows of a batch in one, with
    position ids in place of an attention mask: TRL's strategies bfd and bfd_split, which are padding-free.
    """

    packing: StrictBool = False

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
