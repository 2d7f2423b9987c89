"""From a stored calibration to thresholds for any T, and what is refused on the way."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from snnconvert.calibration import PER, RULES, Calibration, observe
from snnconvert.calibration.rules import mse
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.tensor_file import write_tensors


@pytest.fixture
def calibration(graph: PreparedGraph, images: Tensor) -> Calibration:
    return observe(graph, images.split(6), about={"data": "noise"})


@pytest.fixture
def stored(calibration: Calibration, tmp_path: Path) -> Path:
    calibration.save(tmp_path / "x.calib")
    return tmp_path / "x.calib"


def layer(outputs: int, weight: float) -> nn.Linear:
    found = nn.Linear(1, outputs, bias=False)
    nn.init.constant_(found.weight, weight)
    return found


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", RULES)
def test_a_stored_calibration_gives_the_same_thresholds(
    graph: PreparedGraph, calibration: Calibration, stored: Path, rule: str, per: str
) -> None:
    loaded = Calibration.load(stored)
    for steps in (1, 4, 32):
        expected = calibration.thresholds(graph, steps=steps, rule=rule, per=per)
        found = loaded.thresholds(graph, steps=steps, rule=rule, per=per)
        assert found.steps == expected.steps == (steps if rule in ("mse", "gaussian", "kl") else None)
        assert (found.rule, found.per, found.source) == (rule, per, expected.source)
        for site in graph.sites:
            assert torch.equal(found.values[site.name], expected.values[site.name])
            assert found.values[site.name].shape == (site.channels if per == "channel" else 1,)


def test_everything_else_is_stored_too(calibration: Calibration, stored: Path) -> None:
    loaded = Calibration.load(stored)
    for name in ("images", "sha256", "about", "warnings", "weights"):
        assert getattr(loaded, name) == getattr(calibration, name)


def test_maximum_is_that_of_the_activations(net: Any, graph: PreparedGraph, images: Tensor) -> None:
    found = observe(graph, images.split(6)).thresholds(graph, steps=8, rule="max")
    with torch.no_grad():
        expected = [a.transpose(0, 1).flatten(1).amax(1) for a in net.activations(images)]
    for site, top in zip(graph.sites, expected, strict=True):
        assert torch.allclose(found.values[site.name], top, rtol=1e-6)


def test_one_sentence_names_all_channels_that_were_never_active(images: Tensor) -> None:
    torch.manual_seed(0)
    layers = [nn.Flatten()]
    for width in (36, 8, 8, 8, 8):
        layers += [nn.Linear(width, 8), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(8, 2)).eval()
    with torch.no_grad():
        for linear in model[1::2][:5]:
            linear.weight.abs_(), linear.bias.abs_()  # type: ignore[operator]
            linear.bias[:2] = -1e6  # type: ignore[index]
    graph = prepare(model, images.abs())
    found = observe(graph, [images.abs()])
    (warning,) = found.thresholds(graph, steps=4).warnings
    names = ", ".join(site.name for site in graph.sites[:3])
    assert warning.startswith(f"10 of 40 channels, at 5 of 5 sites ({names} and 2 more), were never active")
    values = found.thresholds(graph, steps=4, rule="max").values[graph.sites[0].name]
    assert values[:2].tolist() == [float(values.max())] * 2
    assert found.thresholds(graph, steps=4, per="layer").warnings == ()


def test_thresholds_do_not_exceed_a_cap() -> None:
    model = nn.Sequential(layer(3, 1.0), nn.ReLU6(), nn.Linear(3, 1)).eval()
    graph = prepare(model, torch.randn(2, 1))
    found = observe(graph, [torch.tensor([[5.99], [6.0], [70.0], [2.0]])])
    for rule in RULES:
        for steps in (1, 2, 3, 5, 8):
            thresholds = found.thresholds(graph, steps=steps, rule=rule)
            assert thresholds.values["1"].max() <= 6
            convert(graph, thresholds, steps=steps)


def test_mse_thresholds_are_refused_for_another_window(graph: PreparedGraph, calibration: Calibration) -> None:
    thresholds = calibration.thresholds(graph, steps=8)
    with pytest.raises(CalibrationRefused, match="computed for T=8, got T=4"):
        convert(graph, thresholds, steps=4)
    assert convert(graph, calibration.thresholds(graph, steps=8, rule="max"), steps=4).steps == 4


def test_thresholds_come_in_the_type_of_the_network(net: Any, images: Tensor) -> None:
    double = prepare(net.double(), images.double())
    thresholds = observe(double, [images.double()]).thresholds(double, steps=4)
    assert {theta.dtype for theta in thresholds.values.values()} == {torch.float64}


def test_a_calibration_of_another_network_is_refused(calibration: Calibration, net: Any, images: Tensor) -> None:
    other = prepare(nn.Sequential(nn.Flatten(), nn.Linear(36, 2), nn.ReLU(), nn.Linear(2, 2)).eval(), images)
    with pytest.raises(CalibrationRefused, match="another network: 2 sites against 1"):
        calibration.thresholds(other, steps=4)
    with torch.no_grad():
        net.hidden.weight.mul_(1 + 1e-6)
    calibration.thresholds(prepare(net, images), steps=4)
    with torch.no_grad():
        net.hidden.weight.mul_(1.01)
    with pytest.raises(CalibrationRefused, match="same sites but other weights"):
        calibration.thresholds(prepare(net, images), steps=4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "mean"}, "unknown rule 'mean'.*max, percentile, mse"),
        ({"per": "chanel"}, "unknown granularity 'chanel'.*did you mean 'channel'"),
        ({"steps": 0}, "T must be a whole number from 1 to 65536, got 0"),
        ({"rule": "percentile", "percent": 0}, "between 0 and 100, got 0"),
        ({"rule": "percentile", "percent": 100.5}, "between 0 and 100, got 100.5"),
    ],
)
def test_wrong_words_are_named(
    graph: PreparedGraph, calibration: Calibration, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        calibration.thresholds(graph, **({"steps": 4} | change))


def parts_of(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())
        return {n: file.get_tensor(n) for n in names}, json.loads(file.metadata()["snnconvert.calibration"])


@pytest.fixture
def old(stored: Path) -> Path:
    """Return a file as versions without moments wrote it."""
    tensors, document = parts_of(stored)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("moments")}
    del document["signed"]
    write_tensors(stored, tensors, "snnconvert.calibration", document)
    return stored


@pytest.mark.parametrize("per", PER)
def test_files_without_moments_are_read_but_the_gaussian_rule_is_refused(
    graph: PreparedGraph, calibration: Calibration, old: Path, per: str
) -> None:
    loaded = Calibration.load(old)
    for rule in RULES.keys() - {"gaussian"}:
        found, expected = (c.thresholds(graph, steps=4, rule=rule, per=per).values for c in (loaded, calibration))
        assert all(torch.equal(theta, expected[name]) for name, theta in found.items())
    with pytest.raises(CalibrationRefused, match=r"no means and variances .*\nhint: calibrate again"):
        loaded.thresholds(graph, steps=4, rule="gaussian", per=per)


def test_moments_are_stored_with_what_is_signed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2)), torch.randn(9, 3)
    graph = prepare(model.eval(), x)
    found = observe(graph, [x])
    found.save(tmp_path / "x.calib")
    loaded = Calibration.load(tmp_path / "x.calib").moments
    assert [moments.signed for moments in loaded.values()] == [True, False]
    for name, moments in found.moments.items():
        assert all(torch.equal(getattr(moments, f), getattr(loaded[name], f)) for f in ("count", "mean", "squares"))


def test_channels_without_an_answer_are_counted_and_take_the_threshold_of_mse(
    graph: PreparedGraph, calibration: Calibration
) -> None:
    names = [site.name for site in graph.sites]
    calibration.moments[names[1]].mean[1:3] = -100.0
    found = calibration.thresholds(graph, steps=4, rule="gaussian")
    (warning,) = found.warnings
    assert warning.startswith(f"2 of 9 channels, at 1 of 2 sites ({names[1]}), have no threshold by the gaussian rule;")
    expected = mse(calibration.histograms[names[1]], 4).float()
    assert (found.values[names[1]] == expected).tolist() == [False, True, True, False, False]
    calibration.moments[names[0]].mean[:] = -100.0
    (warning,) = calibration.thresholds(graph, steps=4, rule="gaussian", per="layer").warnings
    assert warning.startswith(f"1 of 2 layers, at 1 of 2 sites ({names[0]}), have no threshold")


def test_files_that_are_no_calibration_are_refused(stored: Path) -> None:
    whole, (tensors, document) = stored.read_bytes(), parts_of(stored)
    for size in range(0, len(whole), len(whole) // 20):
        stored.write_bytes(whole[:size])
        with pytest.raises(ArtefactRefused, match=r"not a \.calib file, or is truncated"):
            Calibration.load(stored)
    save_file(tensors, stored)
    with pytest.raises(ArtefactRefused, match=r"not a \.calib file"):
        Calibration.load(stored)
    write_tensors(stored, tensors, "snnconvert.calibration", document | {"format": 99})
    with pytest.raises(ArtefactRefused, match=r"has format 99.*\nhint: upgrade"):
        Calibration.load(stored)
    with pytest.raises(ArtefactRefused, match="does not exist"):
        Calibration.load(stored.with_name("none.calib"))


@pytest.mark.parametrize(
    ("tensor", "document"),
    [
        ({"0.counts": torch.zeros(3, 3, dtype=torch.int32)}, {}),
        ({"0.exponent": torch.zeros(4)}, {}),
        ({"0.maximum": torch.full((4,), torch.inf, dtype=torch.float64)}, {}),
        ({"0.moments": torch.zeros(3, 5, dtype=torch.float64)}, {}),
        ({"0.moments": torch.zeros(2, 4, dtype=torch.float64)}, {}),
        ({"0.moments": torch.full((3, 4), torch.nan, dtype=torch.float64)}, {}),
        ({}, {"signed": 3}),
        ({}, {"sites": ["a", "b", "c"]}),
        ({}, {"sites": 3}),
        ({}, {"images": "many"}),
        ({}, {"about": 3}),
        ({}, {"warnings": None}),
    ],
)
def test_content_that_does_not_fit_is_refused(
    stored: Path, tensor: dict[str, Tensor], document: dict[str, Any]
) -> None:
    tensors, whole = parts_of(stored)
    write_tensors(stored, tensors | tensor, "snnconvert.calibration", whole | document)
    with pytest.raises(ArtefactRefused, match=r"damaged \.calib file"):
        Calibration.load(stored)


def test_large_counts_survive_the_file(graph: PreparedGraph, calibration: Calibration, tmp_path: Path) -> None:
    counted = calibration.histograms[graph.sites[0].name]
    counted.counts[0, 1] = 2**40 + 1
    calibration.save(tmp_path / "large.calib")
    loaded = Calibration.load(tmp_path / "large.calib").histograms[graph.sites[0].name]
    assert torch.equal(loaded.counts, counted.counts)


def test_a_calibration_that_cannot_be_written_is_refused(calibration: Calibration, tmp_path: Path) -> None:
    with pytest.raises(ArtefactRefused, match="cannot write"):
        calibration.save(tmp_path / "no folder" / "x.calib")
    calibration.about = {"data": Path("a path")}
    with pytest.raises(UsageError, match="something else"):
        calibration.save(tmp_path / "x.calib")
    assert list(tmp_path.iterdir()) == []
