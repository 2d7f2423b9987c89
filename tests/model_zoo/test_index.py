from pathlib import Path

import pytest

from snnconvert.model_zoo.architectures import find_architecture
from snnconvert.model_zoo.fingerprint import hash_keys, hash_shapes
from snnconvert.model_zoo.index import INDEX, Entry, index, read_index, write_index

ENTRIES = [
    Entry("zoo:a", "k1", "s1", (("fc.weight", 0), ("fc.bias", 0)), "zoo:a", True, frozenset({"00001", "000ff"})),
    Entry("timm:b", "k1", "s1", (("fc.weight", 0), ("fc.bias", 0)), "zoo:a", False, frozenset({"00001", "000ff"})),
    Entry("timm:c", "k2", "s2", (), "timm:c", False, frozenset({"12345"})),
]


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    write_index(tmp_path / "index.json", ENTRIES, {"timm": "1.0"})
    assert list(read_index(tmp_path / "index.json")) == ENTRIES


def test_the_index_is_small_complete_and_consistent() -> None:
    entries = {entry.name: entry for entry in index()}
    assert INDEX.stat().st_size < 400_000
    assert len(entries) == len(index()) > 1400
    assert [name for name in entries if name.startswith("zoo:")] == [
        *(f"zoo:resnet{depth}" for depth in (20, 32, 44, 56, 110)),
        *("zoo:fashion-resnet8", "zoo:fashion-small-vgg", "zoo:small-vgg"),
    ]
    for entry in index():
        first = entries[entry.same_as]
        assert (first.shapes, first.same_as) == (entry.shapes, first.name)


def test_says_which_architectures_compute_the_same() -> None:
    same_as = {entry.name: entry.same_as for entry in index()}
    assert same_as["timm:resnet18"] == "torchvision:resnet18"
    assert same_as["timm:resnetblur18"] == "timm:resnetblur18"  # the same tensors, other strides
    assert same_as["timm:tf_efficientnet_lite0"] != same_as["timm:efficientnet_lite0"]  # other padding


@pytest.mark.parametrize(
    "name", ["zoo:resnet20", "zoo:fashion-resnet8", "torchvision:resnet18", "torchvision:regnet_x_400mf", "timm:vgg11"]
)
def test_agrees_with_the_libraries(name: str) -> None:
    architecture = find_architecture(name)
    entry = next(entry for entry in index() if entry.name == name)
    shapes = architecture.shapes(7)
    assert architecture.head() == entry.head
    assert (hash_keys(shapes), hash_shapes(shapes, entry.head)) == (entry.keys, entry.shapes)
