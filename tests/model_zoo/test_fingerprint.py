import torch
from torch import nn

from snnconvert.model_zoo.fingerprint import (
    class_count,
    hash_keys,
    hash_shapes,
    head_of,
    resemblance,
    shapes_of,
    sketch,
)

HEAD = (("2.weight", 0), ("2.bias", 0))


def network(classes: int, width: int = 4) -> dict[str, tuple[int, ...]]:
    return shapes_of(nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width), nn.Linear(width, classes)).state_dict())


def test_leaves_out_the_counters_of_batch_norm() -> None:
    assert shapes_of({"a.num_batches_tracked": torch.tensor(3), "a.weight": torch.zeros(2, 5)}) == {"a.weight": (2, 5)}


def test_the_head_is_what_changes_with_the_number_of_classes() -> None:
    assert head_of(network(10), network(11)) == HEAD
    assert class_count(network(7), HEAD) == 7
    assert class_count(network(7) | {"2.bias": (8,)}, HEAD) is None
    assert class_count({}, HEAD) is None


def test_the_hashes_depend_on_names_and_on_the_shapes_outside_the_head_alone() -> None:
    ten, wide, renamed = network(10), network(10, width=5), {"x" + key: shape for key, shape in network(10).items()}
    assert hash_shapes(ten, HEAD) == hash_shapes(network(1000), HEAD) != hash_shapes(wide, HEAD)
    assert hash_keys(ten) == hash_keys(wide) != hash_keys(renamed)
    assert hash_keys(ten) == hash_keys(dict(reversed(ten.items())))


def test_sketches_estimate_the_share_of_common_names_and_shapes() -> None:
    def names(start: int, stop: int) -> dict[str, tuple[int, ...]]:
        return {f"layer{number}.weight": (number,) for number in range(start, stop)}

    assert resemblance(sketch(names(0, 300)), sketch(names(0, 300))) == 1
    assert resemblance(sketch(names(0, 300)), sketch(names(1000, 1300))) < 0.15
    assert 0.3 < resemblance(sketch(names(0, 300)), sketch(names(100, 400))) < 0.75  # 200 of 400 in common
