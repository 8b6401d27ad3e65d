"""The kernel's word that a parent is gone (prctl(2), PR_SET_PDEATHSIG)."""

import ctypes
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def signal_at_parents_end(number: int) -> None:
    """Have this process sent signal `number` when its parent ends; nothing happens where the system is not Linux.

    "Parent" is the thread that forked it. One that is gone already is not noticed: compare os.getppid() afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
