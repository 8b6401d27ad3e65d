"""Files that train nothing, named for what they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.imports.rules import words


@dataclass(frozen=True, slots=True)
class NoTraining:
    """A kind of file: a key of each set in `has` is there, and none of `unless`."""

    name: str
    has: tuple[frozenset[str], ...]
    unless: frozenset[str]
    advice: str

    def is_meant(self, config: Mapping[str, Any]) -> bool:
        """Whether `config` is a file of this kind."""
        keys = {key for key, value in config.items() if value not in (None, False)}
        return all(some & keys for some in self.has) and not self.unless & keys


_RUN = words("model_name_or_path base_model model model_name model_type output_dir architectures")
_TRAINS = words(
    "do_train per_device_train_batch_size learning_rate num_train_epochs max_steps micro_batch_size train training "
    "optimizer optimizer_in_bwd datasets adapter"
)
_NAMES_THE_RUN = "it says nothing of the training; paste the trainer's own file, which names it"

KINDS = (
    NoTraining(
        "a DeepSpeed configuration",
        (words("zero_optimization train_micro_batch_size_per_gpu zero_allow_untested_optimizer"),),
        _RUN,
        "it says how a run is spread, not what is trained; paste the trainer's own file, which names it",
    ),
    NoTraining(
        "an accelerate configuration",
        (words("compute_environment distributed_type"),),
        _RUN,
        "it says what a run is started on, not what is trained; paste the trainer's own file",
    ),
    NoTraining(
        "a tokenizer's configuration",
        (words("tokenizer_class added_tokens_decoder"),),
        _RUN,
        "paste the config.json beside it, or a trainer's file",
    ),
    NoTraining(
        "a generation configuration",
        (words("_from_model_config top_p do_sample"),),
        _RUN | _TRAINS,
        "paste the config.json beside it, or a trainer's file",
    ),
    NoTraining("a SkyPilot job", (words("resources"), words("run")), words(""), _NAMES_THE_RUN),
    NoTraining("a cloud's configuration", (words("provider"), words("gpu gpu_count memory")), _RUN, _NAMES_THE_RUN),
    NoTraining(
        "a file for inference, evaluation or export",
        (
            words(
                "generation engine inference_engine tasks infer_backend export_dir do_predict eval_backend "
                "quantization_output_path output_path"
            ),
        ),
        _TRAINS,
        "nothing is trained by it; paste the file of the training",
    ),
    NoTraining(
        "a torchtune recipe that trains nothing",
        (words("checkpointer"),),
        _TRAINS,
        "nothing is trained by it; paste the file of the training",
    ),
)  # fmt: skip
