"""What every test file shares."""

import pytest
import torch

collect_ignore = ["workers"]  # bodies of subprocesses, some of which set up the process that imports them


@pytest.fixture(autouse=True)
def _one_thread():
    # Tests run several at a time; and a sum's order of additions depends on the number of threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
