import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from snnconvert.cli.memory import keep_freed
if sys.argv[1] == "keep":
    keep_freed()
def work():
    blocks = [torch.ones(2**21) for _ in range(8)]  # 8 MiB each
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_not_asked_for_again() -> None:
    keep, plain = (
        int(subprocess.run([sys.executable, "-c", FAULTS, word], check=True, capture_output=True, text=True).stdout)
        for word in ("keep", "plain")
    )
    assert keep < 100
    assert plain > 10 * keep
