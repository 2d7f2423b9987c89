import torch

from snnconvert.model_zoo.fingerprint import shapes_of
from snnconvert.model_zoo.index import index
from snnconvert.model_zoo.libraries import torchvision
from snnconvert.model_zoo.nearest import describe_nearest


def test_names_the_closest_architecture_and_what_differs() -> None:
    state = torchvision().models.mobilenet_v2(weights=None, num_classes=10).state_dict()
    del state["features.1.conv.0.0.weight"]
    state["extra"] = torch.zeros(1)
    state["classifier.1.weight"] = torch.zeros(10, 7)
    assert describe_nearest(shapes_of(state), index()) == (
        "; the closest is torchvision:mobilenet_v2: 1 missing: features.1.conv.0.0.weight; 1 unexpected: extra; "
        "1 of another shape: classifier.1.weight (expected [10, 1280], got [10, 7])"
    )


def test_says_nothing_where_nothing_is_close() -> None:
    assert describe_nearest({"a.b": (3,), "c.d": (4,)}, index()) == ""
