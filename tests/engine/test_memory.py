import subprocess
import sys

import pytest

_FAULTS = """
import resource
import torch
from multitask.engine.memory import keep_freed_memory

def use() -> None:
    torch.zeros(10, 2**20).add_(1)  # 40 MiB, 10,240 pages

keep_freed_memory()
for _ in range(5):
    use()  # what lies between may be taken by something else at first
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_memory_that_was_freed_is_used_again_without_faults() -> None:
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    # Something small that lands in the freed block moves the next one, once; without, all twenty are faulted in anew.
    assert int(done.stdout) < 20 * 10_240 / 4
