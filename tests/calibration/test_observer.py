"""One pass over the data: what is counted, what is refused, and that nothing is left behind."""

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.calibration import PER, calibrate, observe
from snnconvert.converter.errors import CalibrationRefused, DataRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare


def test_activations_are_those_of_the_model(net: Any, graph: PreparedGraph, images: Tensor) -> None:
    found = observe(graph, images.split(6))
    with torch.no_grad():
        expected = net.activations(images)
    assert found.images == 20
    for site, activations in zip(graph.sites, expected, strict=True):
        counted = found.histograms[site.name]
        by_channel = activations.transpose(0, 1).flatten(1)
        assert torch.allclose(counted.maximum.float(), by_channel.amax(1), rtol=1e-5)
        assert counted.counts.sum(1).tolist() == [by_channel.shape[1]] * site.channels
        assert (counted.counts[:, 0] - (by_channel == 0).sum(1)).abs().max() <= 1


@pytest.mark.parametrize("sample", [2, 3, 1000])
def test_a_sample_counts_some_activations_and_finds_the_largest(
    graph: PreparedGraph, images: Tensor, sample: int
) -> None:
    whole, some = observe(graph, images.split(6)), observe(graph, images.split(6), sample=sample)
    for site in graph.sites:
        all_of_them, counted = (c.histograms[site.name] for c in (whole, some))
        assert torch.equal(all_of_them.maximum, counted.maximum)
        positions = int(np.prod(site.shape[1:]))
        one_in = max(1, min(sample, positions // 8))
        assert counted.counts.sum(1).tolist() == [len(images) * (positions // one_in)] * site.channels
        assert (counted.counts <= all_of_them.counts).all()
    assert some.images == whole.images
    assert some.sha256 == whole.sha256


def test_a_sample_below_one_is_refused(graph: PreparedGraph, images: Tensor) -> None:
    with pytest.raises(UsageError, match="one in 0 activations cannot be counted"):
        observe(graph, [images], sample=0)


def test_moments_are_those_of_the_pre_activations(net: Any, graph: PreparedGraph, images: Tensor) -> None:
    found = observe(graph, images.split(6)).moments
    with torch.no_grad():
        z = net.conv(images)
        expected = z, net.hidden(z.relu().flatten(1))
    for site, values in zip(graph.sites, expected, strict=True):
        raw = values.transpose(0, 1).flatten(1).double().numpy()
        assert found[site.name].count.tolist() == [raw.shape[1]] * site.channels
        assert np.allclose(found[site.name].mean, raw.mean(1), atol=1e-6)
        assert np.allclose(found[site.name].variance, raw.var(1), rtol=1e-5)


def test_batch_sizes_change_neither_counts_nor_hash(graph: PreparedGraph, images: Tensor) -> None:
    whole, split = observe(graph, [images]), observe(graph, images.split(7))
    by_image = b"".join(hashlib.sha256(image.numpy().tobytes()).digest() for image in images)
    assert whole.sha256 == split.sha256 == hashlib.sha256(by_image).hexdigest()
    for name, counted in whole.histograms.items():
        assert (counted.counts - split.histograms[name].counts).abs().sum() <= 4  # a sum may round another way
    assert observe(graph, [images.flip(0)]).sha256 != whole.sha256
    assert observe(graph, [images[:19]]).sha256 != whole.sha256


def test_data_may_stream(graph: PreparedGraph, images: Tensor) -> None:
    drawn = []

    def batches() -> Iterator[Tensor]:
        for batch in images.split(4):
            drawn.append(len(batch))
            yield batch

    assert observe(graph, batches(), images=8).images == 8
    assert sum(drawn) <= 12


def test_the_last_batch_is_cut_at_the_limit(graph: PreparedGraph, images: Tensor) -> None:
    found = observe(graph, images.split(8), images=11)
    assert found.images == 11
    assert found.sha256 == observe(graph, [images[:11]]).sha256
    assert found.warnings == ()


def test_too_few_images_are_said(graph: PreparedGraph, images: Tensor) -> None:
    found = observe(graph, [images], images=64, about={"data": "noise"})
    assert found.warnings == ("asked for 64 calibration images, got 20",)
    thresholds = found.thresholds(graph, steps=4)
    assert thresholds.warnings == found.warnings
    assert thresholds.source == {"images": 20, "sha256": found.sha256, "data": "noise"}


def test_labels_are_passed_over(graph: PreparedGraph, images: Tensor) -> None:
    labels = torch.arange(20)
    plain = observe(graph, [images])
    for batch in ((images, labels), [images, labels, labels]):
        assert observe(graph, [batch]).sha256 == plain.sha256


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.a(x) + self.b(y)).relu().sum(1, keepdim=True) * 2


def test_two_inputs_are_read_and_hashed_whatever_the_batch_size() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(10, 3), torch.randn(10, 2)
    graph = prepare(TwoInputs().eval(), (x, y))
    whole = observe(graph, [(x, y, torch.arange(10))])
    split = observe(graph, zip(x.split(3), y.split(3), strict=True))
    assert whole.images == split.images == 10
    assert whole.sha256 == split.sha256
    assert observe(graph, [(x, y.flip(0))]).sha256 != whole.sha256
    with pytest.raises(DataRefused, match=r"the same number of images, at least one, in each input, got \[10, 9\]"):
        observe(graph, [(x, y[:9])])
    with pytest.raises(DataRefused, match="images of shape 3 and 2, got 3"):
        observe(graph, [x])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (lambda x: [], "hold no image"),
        (lambda x: [x[:0]], r"at least one, in each input, got \[0\]"),
        (lambda x: [x[..., :5]], "takes images of shape 1x6x6, got 1x6x5"),
        (lambda x: x, "takes images of shape"),
        (lambda x: [x.double()], "takes images of torch.float32, got torch.float64"),
        (lambda x: [x.byte()], "takes images of torch.float32, got torch.uint8"),
        (lambda x: [x.numpy()], "takes images of shape 1x6x6, got ndarray"),
        (lambda x: [{"image": x}], "takes images of shape 1x6x6, got str"),
        (lambda x: [x.clone().index_fill_(0, torch.tensor(3), torch.nan)], "relu: its input is NaN or infinite"),
        (lambda x: [x[:9], x[9:].clone().fill_(torch.inf)], "relu: its input is NaN or infinite"),
    ],
)
def test_bad_data_are_refused(
    graph: PreparedGraph, images: Tensor, batches: Callable[[Tensor], Any], message: str
) -> None:
    with pytest.raises((DataRefused, CalibrationRefused), match=f"(?s){message}"):
        observe(graph, batches(images))


def test_a_cap_does_not_hide_infinity() -> None:
    graph = prepare(nn.Sequential(nn.Linear(2, 2), nn.ReLU6(), nn.Linear(2, 2)).eval(), torch.randn(2, 2))
    with pytest.raises(CalibrationRefused, match="1: its input is NaN or infinite"):
        observe(graph, [torch.tensor([[torch.inf, 0.0]])])


@pytest.mark.parametrize("asked", [0, -3])
def test_asking_for_no_image_is_a_wrong_word(graph: PreparedGraph, images: Tensor, asked: int) -> None:
    with pytest.raises(UsageError, match=f"at least 1, got {asked}"):
        observe(graph, [images], images=asked)


def test_the_model_is_left_as_it_was(net: Any, images: Tensor) -> None:
    net.train()
    before = copy.deepcopy(net.state_dict())
    graph = prepare(net, images)
    output = graph.module(images)
    found = observe(graph, [images.requires_grad_()])
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(graph.module(images), output)
    assert not any(field.requires_grad for counted in found.histograms.values() for field in vars(counted).values())


def test_what_is_kept_does_not_depend_on_the_number_of_images(graph: PreparedGraph, images: Tensor) -> None:
    def sizes(batches: list[Tensor]) -> list[int]:
        found = observe(graph, batches)
        kept = [*found.histograms.values(), *found.moments.values()]
        return [field.numel() for seen in kept for field in vars(seen).values() if isinstance(field, Tensor)]

    assert sizes([images[:2]]) == sizes([images] * 30)


def test_calibrate_is_observe_and_thresholds(graph: PreparedGraph, images: Tensor) -> None:
    direct = calibrate(graph, images.split(5), steps=4, rule="max", per="layer", images=12)
    stored = observe(graph, images.split(5), images=12).thresholds(graph, steps=4, rule="max", per="layer")
    assert direct.source == stored.source
    assert all(torch.equal(theta, stored.values[name]) for name, theta in direct.values.items())


class Tokens(nn.Module):
    """A transformer's multilayer perceptron on patches; channels lie in the last dimension behind the first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 5, 2, stride=2), nn.LayerNorm(5)
        self.hidden, self.out = nn.Linear(5, 7), nn.Linear(7, 3)

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """Return what each site encodes, by its name; no weights read what the stem says."""
        normal = self.norm(F.silu(self.stem(x)).flatten(2).transpose(1, 2))
        return {"norm": normal, "gelu": F.gelu(self.hidden(normal))}

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.activations(x)["gelu"]).mean(1)


@pytest.fixture
def tokens() -> Tokens:
    torch.manual_seed(0)
    return Tokens().eval()


def test_magnitudes_are_counted_along_the_axis_of_the_channels(tokens: Tokens, images: Tensor) -> None:
    graph = prepare(tokens, images[:2])
    found = observe(graph, images.split(6))
    with torch.no_grad():
        expected = tokens.activations(images)
    assert {site.name: (site.axis, site.signed) for site in graph.sites} == {"norm": (2, True), "gelu": (2, True)}
    for name in ("norm", "gelu"):
        values, counted = expected[name].flatten(0, -2), found.histograms[name]
        assert values.min() < 0 < values.max()
        assert torch.allclose(counted.maximum.float(), values.abs().amax(0), rtol=1e-5)
        assert counted.counts.sum(1).tolist() == [20 * 9] * values.shape[1]
        assert torch.allclose(found.moments[name].mean.float(), values.mean(0), atol=1e-6)
        assert found.moments[name].signed
        zero = counted.counts.cumsum(1)[:, 100].double()  # up to the edge of the hundredth bin
        share = (values.abs().double() <= 100 * counted.width).sum(0)
        assert (zero - share).abs().max() <= 1


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("steps", [1, 4, 16])
def test_mse_thresholds_suit_values_of_both_signs(tokens: Tokens, images: Tensor, steps: int, per: str) -> None:
    graph = prepare(tokens, images[:2])
    found = calibrate(graph, [images], steps=steps, per=per).values["gelu"].double().numpy()
    with torch.no_grad():
        values = tokens.activations(images)["gelu"].flatten(0, -2).double().numpy()

    def error(theta: Any) -> float:
        level = theta / steps
        return float(np.square(values - level * np.clip(np.floor(values / level + 0.5), -steps, steps)).sum())

    top = np.abs(values).max(0 if per == "channel" else None)
    best = min(error(np.broadcast_to(top * share, found.shape)) for share in np.linspace(0.01, 1, 200))
    assert error(found) <= 1.02 * best


def test_a_site_that_is_never_positive_is_not_dead() -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(3, 4), nn.LogSigmoid(), nn.Linear(4, 2)).eval(), torch.randn(50, 3)
    found = calibrate(prepare(model, x[:2]), [x], steps=4, rule="max")
    with torch.no_grad():
        assert torch.allclose(found.values["1"], -model[:2](x).amin(0), rtol=1e-5)
    assert found.warnings == ()
