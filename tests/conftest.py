"""What every test file shares."""

import os
import tempfile
from collections.abc import Iterator

import pytest
import torch

os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state-")  # not the user's, for subprocesses too
collect_ignore = ["workers"]  # bodies of subprocesses, some of which set up the process that imports them


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # Tests run several at a time; and a sum's order of additions depends on the number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _no_process_group_is_left() -> Iterator[None]:
    before = set(os.environ)
    yield
    # Lightning writes the address of its processes into the environment: those of a later test would take it.
    for name in set(os.environ) - before:
        if name.startswith("MASTER_"):
            del os.environ[name]
    left = torch.distributed.is_initialized()
    if left:
        torch.distributed.destroy_process_group()
    assert not left, "this test left a group of processes"
