"""What a command runs: a training of a trainer's own, another kind of training, no training, or a program unknown."""

import re
from itertools import pairwise

from app.imports.effects import IMAGES, PREFERENCES, Effect
from app.imports.rules import Reading
from planner.answer.not_planned import Pairs

# Scripts that build what TRL's, LLaMA-Factory's, ms-swift's or transformers' options say: trl/scripts/sft.py, the
# alignment handbook's run_sft.py, LLaMA-Factory's src/train.py, examples/pytorch/language-modeling/run_clm.py.
_AS_THEIR_OPTIONS_SAY = {"sft", "run_sft", "run_clm", "pt"}
_OTHER_TRAINING = re.compile(
    r"dpo|grpo|gspo|kto|ppo|orpo|cpo|bco|tpo|mpo|rloo|reward|prm|gkd|distill|online|nash|xpo|rlhf|async"
)
_PAIRS = re.compile(r"dpo|orpo|cpo|reward")
_SEES = re.compile(r"vlm|vision|multimodal|image|audio|video|_vl(?:_|$)")
_TRAINS = re.compile(r"train|tune|sft")
_NO_TRAINING = re.compile(
    r"(?:^|_)(?:init|infer|inference|eval|evaluate|predict|generate|chat|demo|serve|server|api|webui|export|merge|"
    r"convert|quantize|download|upload|push|preprocess|prepare|tokenize|stat|cal|bench|benchmark|llama_pro|llamafy)"
    r"(?:_|$)"
)
_SETTINGS = re.compile(r".+\.(?:ya?ml|json)$")
_NAMING = {"-c", "--config", "--config_path"}
_OWN = Effect(
    "a program that is not read here; planned as its options alone say", "as its options alone say", saves=True
)


def settings_file(words: list[str]) -> str:
    """Why a command whose settings stand in a file cannot be read; nothing where they stand in its options.

    The file follows the program, the script or the module, or `--config`. accelerate's own `--config_file` is none.
    """
    module = next((after for before, after in pairwise(words) if before == "-m"), "")
    for place, (before, word) in enumerate(pairwise(words)):
        follows = place == 1 or before == module or before.endswith(".py")
        if before in _NAMING or (follows and _SETTINGS.match(word)):
            return f"reads its settings from {word[:100]}, which is never opened here; paste that file"
    return ""


def program_refusal(command: str, *, is_known: bool = True) -> str:
    """Why there is nothing to plan; nothing for a known command that may train."""
    if is_known and (_TRAINS.search(command) or not _NO_TRAINING.search(command)):
        return ""
    return f"runs `{command}`, which is no training that is read here; paste the training's command or file"


def name_the_program(reading: Reading, *, known: frozenset[str] = frozenset()) -> None:
    """Leave out what a script does beyond its options. `known`: scripts of this dialect that do nothing beyond."""
    command = reading.config.get("command")
    if not isinstance(command, str):
        return
    if _OTHER_TRAINING.search(command):
        paired = _PAIRS.search(command) is not None and not re.search("grpo|online", command)
        reading.leave_out("command", PREFERENCES, least=Pairs() if paired else None)
    elif _SEES.search(command):
        reading.leave_out("command", IMAGES)
    elif " " not in command and command not in _AS_THEIR_OPTIONS_SAY | known:
        reading.leave_out("command", _OWN)
