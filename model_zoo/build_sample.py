"""Build the embedded sample: ``python -m snnconvert.model_zoo.build_sample``.

1,000 training and 2,000 test images of Fashion-MNIST, the first of each part after a shuffle with ``SEED``.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .named_data import SAMPLE_FILE, default_root, read_named

SEED = 0
COUNTS = {"train": 1000, "test": 2000}


def build_sample(root: Path, output: Path) -> None:
    """Write the sample of the Fashion-MNIST found in ``root`` (or in Debian's package) as a compressed .npz."""
    arrays: dict[str, Any] = {}
    for split, count in COUNTS.items():
        images, labels, _ = read_named("fashion-mnist", split, root)
        chosen = np.random.default_rng(SEED).permutation(len(labels))[:count]
        arrays[f"{split}_images"] = images[chosen, :, :, 0]
        arrays[f"{split}_labels"] = labels[chosen].astype(np.uint8)
    np.savez_compressed(output, **arrays)


def main() -> None:
    """Write the sample into the package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=default_root(), help="folder of torchvision's data sets")
    parser.add_argument("-o", "--output", type=Path, default=SAMPLE_FILE)
    options = parser.parse_args()
    build_sample(options.data_dir, options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
