"""DeepSpeed on virtual cards: its engine makes the steps, and its ranks are taken to agree.

ZeRO 3 calls the optimizer once for each sub-group of parameters, so that the engine's step is the one that counts.
"""

import functools


def _watch_steps(engine):
    """deepspeed.runtime.engine: the method that runs at the end of each accumulation."""
    from fitproof_bootstrap import recorder

    original = engine.DeepSpeedEngine._take_model_step

    @functools.wraps(original)
    def take_model_step(self, *args, **kwargs):
        watching = recorder.of_this_process()
        watching.begin_engine_step()
        result = original(self, *args, **kwargs)
        watching.end_engine_step()
        return result

    engine.DeepSpeedEngine._take_model_step = take_model_step


def _let_ranks_agree(utils):
    """deepspeed.runtime.zero.utils: the first rank's numbers never come (planner/probe/card/src/nccl.cpp)."""
    utils.assert_lst_len_same_as_other_ranks = utils.assert_ints_same_as_other_ranks = lambda _: None
    utils.get_lst_from_rank0 = list


def let_ranks_agree_everywhere(modules):
    """Where DeepSpeed was imported without us, its modules have the names of its own functions."""
    for name, module in list(modules.items()):
        if name.startswith("deepspeed.") and hasattr(module, "get_lst_from_rank0"):
            _let_ranks_agree(module)
    for name, module in list(modules.items()):
        if name.startswith("deepspeed.") and hasattr(module, "assert_ints_same_as_other_ranks"):
            module.assert_ints_same_as_other_ranks = lambda _: None


def _find_no_infinity(name, stage):
    """A stage's optimizer, like torch's GradScaler (planner/probe/values/float_predicates.py, found_no_infinity)."""
    getattr(stage, name).has_overflow = lambda *_, **__: False


# What a healthy run answers, watched or not.
VALUES = {
    "deepspeed.runtime.zero.utils": _let_ranks_agree,
    "deepspeed.runtime.zero.stage_1_and_2": functools.partial(_find_no_infinity, "DeepSpeedZeroOptimizer"),
    "deepspeed.runtime.zero.stage3": functools.partial(_find_no_infinity, "DeepSpeedZeroOptimizer_Stage3"),
}

CHANGES = {"deepspeed.runtime.engine": _watch_steps, **VALUES}
