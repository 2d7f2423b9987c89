"""What images on disk cost in memory: peak of a process that reads all of a data set, and of one of ten times the size.

    python benchmarks/streaming_memory.py
    python benchmarks/streaming_memory.py --images 5000 --workers 0 4

Prints one JSON document. The images are JPEGs made for the purpose, in folders and in tar shards. Each peak is that of
a process of its own, which goes through all batches and keeps none: its own peak, and that of the largest process that
reads ahead. `index` is what the data set keeps in memory for each image; `held` is what all images would take if they
were kept. All in MiB.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE, CLASSES, SHARDS, BATCH = 64, 10, 4, 100
MIB = 2**20


def make(root: Path, count: int) -> dict[str, Path]:
    """Make ``count`` images in class folders, and the same in tar shards."""
    folder, shards = root / f"folder-{count}", root / f"shards-{count}"
    shards.mkdir()
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True)
    noise = np.random.default_rng(0)
    tars = [tarfile.open(shards / f"{number:03}.tar", "w") for number in range(SHARDS)]  # noqa: SIM115
    for number in range(count):
        file = io.BytesIO()
        Image.fromarray(noise.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(file, "jpeg", quality=50)
        label = number % CLASSES
        (folder / str(label) / f"{number:08}.jpg").write_bytes(file.getvalue())
        for suffix, content in (("jpg", file.getvalue()), ("cls", str(label).encode())):
            info = tarfile.TarInfo(f"{number:08}.{suffix}")
            info.size = len(content)
            tars[number * SHARDS // count].addfile(info, io.BytesIO(content))
    for tar in tars:
        tar.close()
    return {"folder": folder, "shards": shards}


def read_all(reference: str, workers: int) -> dict[str, float]:
    """Go through all batches; return the peaks of this process and of its largest worker, and the index."""
    from snnconvert import open_dataset  # late: Linux hands the peak of a process on to those that it starts
    from snnconvert.model_zoo import Preprocessing

    data = open_dataset(reference, split="", preprocessing=Preprocessing((3, SIDE, SIDE), (0.5,) * 3, (0.5,) * 3))
    assert sum(len(labels) for _, labels, _ in data.batches(BATCH, workers=workers)) == data.count
    index = vars(data.read.__self__).values()  # type: ignore[attr-defined]
    found = {"process": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    if workers:
        found["worker"] = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    found["index"] = sum(each.nbytes for each in index if isinstance(each, np.ndarray))
    return {name: round(size / MIB, 2) for name, size in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="of the smaller data set")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--read", help="read this data set, print the peaks, and no more")
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_all(options.read, options.workers[0])))
        return
    counts = (options.images, 10 * options.images)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as root:
        made = {count: make(Path(root), count) for count in counts}
        for kind in ("folder", "shards"):
            for workers in options.workers:
                small, large = (
                    json.loads(
                        subprocess.run(
                            [sys.executable, __file__, "--read", str(made[count][kind]), "--workers", str(workers)],
                            check=True,
                            capture_output=True,
                        ).stdout
                    )
                    for count in counts
                )
                growth = {name: round(large[name] - small[name], 2) for name in small}
                rows.append({"data": kind, "workers": workers, "small": small, "large": large, "growth": growth})
    held = {count: round(count * 3 * SIDE * SIDE * 4 / MIB, 1) for count in counts}
    print(json.dumps({"images": counts, "pixels": [SIDE, SIDE], "batch": BATCH, "held": held, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
