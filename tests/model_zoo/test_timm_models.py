from torch import nn

from snnconvert.model_zoo.timm_models import find


def test_finds_names_with_and_without_a_tag() -> None:
    plain, tagged = find("resnet18"), find("resnet18.fb_swsl_ig1b_ft_in1k")
    assert plain is not None
    assert tagged is not None
    assert (plain.name, tagged.name) == ("timm:resnet18", "timm:resnet18.fb_swsl_ig1b_ft_in1k")
    assert "resnet18.fb_swsl_ig1b_ft_in1k" in tagged.notes[0]
    model = tagged.build(7)
    assert isinstance(model.fc, nn.Linear)
    assert model.fc.out_features == 7


def test_has_no_other_names() -> None:
    assert find("resnet18.no_such_tag") is None
    assert find("no_such_network") is None


def test_says_where_it_crops_otherwise_than_timm() -> None:
    found = find("convnextv2_huge")
    assert found is not None
    assert "crop mode 'squash'" in found.notes[1]
