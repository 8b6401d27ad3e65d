"""What the workers are shared by: places, processor time, waiting."""

from planner.units import MIB

# Two, so that one long request holds up no other; what they hold beside the quick ones stays under the ceiling.
SLOW_PLACES = 2
# Of a processor, not of the clock: on a busy machine a plan is no larger. A plan's page takes some 20 ms (make bench).
SLICE_SECONDS = 0.1
# For light clients while heavy ones are active: a map of a model that no worker has seen takes half of it.
LIGHT_SLICE_SECONDS = 0.5
BUDGET_SECONDS = 10.0
# What is left of the budget while other clients wait for the place, and while a light client waits.
CONTENDED_SECONDS = 2.0
LIGHT_WAITS_SECONDS = 0.5
# The budget by the clock, where the processors are taken by others.
LONGEST_SECONDS = 30.0
# Waiting ends before two seconds have passed.
MOST_WAITING_SECONDS = 1.8
MOST_WAITING = 256
MOST_WAITING_BYTES = 16 * MIB
LOOK_SECONDS = 0.1
# Ending a worker costs a new one, some 10 ms of a processor.
KILL_SECONDS = 0.02
