"""The stack is imported on a virtual card that sleeps; a helper is forked before any test trains in this process.

torch cannot be forked any more once its autograd has run, so each dry run is a fork of the helper.
"""

from planner.probe.devices.virtual_card import insert_any_card

insert_any_card()

from tests.probe import helper  # noqa: E402  # the stack comes after its card

helper.start()
