"""Operators one at a time: what torch's allocator does for each, beside what its card in planner/step says.

    python -m planner.probe.recording.operators                           # this environment's torch, a line each
    python -m planner.probe.recording.operators --python OTHER/bin/python   # that of another, which needs only torch
    python -m planner.probe.recording.operators --record > planner/probe/recording/operators/recorded.jsonl

torch_side.py runs the operators of torch_cases.py on a virtual card, forward and backward, and prints what torch's own
history of its allocator has. card_side.py runs the same in the engine of planner/step. lifetimes.py writes either down
as one text, comparison.py says where two texts part, and recorded.jsonl keeps those of the release that the cards were
made for: a new release of torch is a list of the operators that changed.
"""
