"""A large world of which only the first ranks run: the others wait, and none waits for them.

NCCL's calls return at once on a virtual card (planner/probe/card/src/nccl.cpp). What else ranks wait for is here: the
store they meet in, and gloo's groups, which have torch's own pretend group in their place.
"""

import functools
import glob
import os
import sys
import time

POLL_SECONDS = 0.5
# (rank, size) of the world that this process's group was made for; the group itself may be gone when it reports.
_worlds = []


def place():
    """(rank, number of ranks): as the process group was told, else as a launcher says; alone without either.

    torch.multiprocessing.spawn sets no RANK: such processes name theirs to init_process_group.
    """
    if _worlds:
        return _worlds[-1]
    rank, world = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return int(rank) if rank.isdigit() else 0, int(world) if world.isdigit() else 1


def fewer_than_the_world(run):
    """How many ranks run; 0 where that is all of them, who can then wait for each other as they do in life."""
    world = os.environ.get("WORLD_SIZE", "")
    return 0 if world.isdigit() and int(world) <= run["ranks"] else run["ranks"]


def wait_if_not_needed(run, folder):
    """Where a launcher started this process as a rank that need not run: wait for those that do, and end."""
    rank = os.environ.get("RANK", "")
    if run["ranks"] and rank.isdigit() and int(rank) >= run["ranks"] and "WORLD_SIZE" in os.environ:
        _wait(run["ranks"], folder)


def _wait(ranks, folder):
    while len(glob.glob(os.path.join(folder, "process-*.json"))) < ranks:
        time.sleep(POLL_SECONDS)
    os._exit(0)


def let_groups_form(distributed, run, folder):
    """Change torch.distributed.distributed_c10d where a group of processes is made."""
    # A split communicator is not told how many ranks it has: NCCL asks the others. Made anew, it is told.
    distributed._get_split_source = lambda _: None
    distributed.split_group = functools.partial(_form_groups, distributed)
    if run["ranks"] and hasattr(distributed, "ProcessGroupGloo"):
        distributed.ProcessGroupGloo = _pretend_group
    original = distributed._new_process_group_helper

    def new_group(group_size, group_rank, *args, **kwargs):
        # Only a first group is made where there is none: the whole world. torch.multiprocessing.spawn names ranks here.
        if not distributed.is_initialized() and isinstance(group_rank, int) and group_rank >= 0:  # -1: MPI will tell
            if 0 < run["ranks"] <= group_rank:
                _wait(run["ranks"], folder)
            _worlds.append((group_rank, group_size))
        return original(group_size, group_rank, *args, **kwargs)

    distributed._new_process_group_helper = new_group


def _form_groups(distributed, parent_pg=None, split_ranks=(), timeout=None, _options=None, group_desc=None, **_):
    """In place of split_group, whose ranks are those of the parent: the group that this process is in."""
    parent = distributed.get_process_group_ranks(parent_pg or distributed._get_default_group())
    own = None
    for ranks in split_ranks:
        members = [parent[rank] for rank in ranks]
        made = distributed.new_group(members, timeout=timeout, group_desc=group_desc)
        own = made if distributed.get_rank() in members else own
    return own


def _pretend_group(_store, rank, size, *_args, **_kwargs):
    """In place of ProcessGroupGloo: collectives that return, as if every rank held what this one holds."""
    from torch._C._distributed_c10d import FakeProcessGroup

    make = getattr(FakeProcessGroup, "_create_internal", FakeProcessGroup)
    return make(rank, size)


def do_not_wait_for_ranks(rendezvous, run):
    """Let the store's owner begin without the ranks that never come (torch.distributed.rendezvous)."""
    if not run["ranks"]:
        return
    store = rendezvous.TCPStore

    def open_store(*args, **kwargs):
        return store(*args, **{**kwargs, "wait_for_workers": False})

    rendezvous.TCPStore = open_store


def let_go_of_collectives(torch):
    """Wait until NCCL's watchdog has let go of the tensors that this step's collectives were given.

    It looks every 100 ms (ProcessGroupNCCL.cpp, kWatchdogThreadSleepMillis). A step of a real card takes longer; one
    whose kernels do nothing may not, and the buckets that DDP puts others in place of would be held for another step.
    """
    distributed = sys.modules.get("torch.distributed.distributed_c10d")
    if distributed is None or not distributed.is_initialized():
        return
    for group, (backend, _) in list(distributed._world.pg_map.items()):
        if "nccl" in str(backend):
            # A release of torch that cannot be asked is taken as it comes.
            getattr(group._get_backend(torch.device("cuda")), "_wait_for_pending_works", int)()
