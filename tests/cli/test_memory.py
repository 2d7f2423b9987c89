import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from snnconvert.cli.memory import keep_freed
keep_freed()
def work():
    blocks = [torch.ones(6 * 2**20) for _ in range(8)]  # 24 MiB each
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_not_asked_for_again() -> None:
    found = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert int(found.stdout) < 100  # a round takes 49,152 pages
