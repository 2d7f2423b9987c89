"""Tracing names each call's module and source line, and refuses what it cannot follow."""

import inspect
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.on_shapes import OnShapes
from snnconvert.converter.graph.tracing import first_line, trace


def line_of(text: str) -> str:
    """Return file:line of the first line of this file that holds ``text``."""
    source, _ = inspect.findsource(line_of)
    return f"{__file__}:{next(i for i, line in enumerate(source, 1) if text in line)}"


def test_each_call_knows_its_module_and_line() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.act(x))  # here

    graph = trace(nn.Sequential(Block(), nn.ReLU()), (torch.randn(2, 3),), OnShapes()).graph
    calls = [(n.meta["path"], n.meta["source"]) for n in graph.nodes if n.op == "call_function"]
    here = line_of("# here")
    assert calls == [("0.act", here), ("0", here), ("1", "torch.nn.modules.activation.ReLU")]


def test_a_model_of_torch_modules_names_the_class_instead_of_a_line() -> None:
    graph = trace(nn.Sequential(nn.Linear(3, 4), nn.GELU()), (torch.randn(2, 3),), OnShapes()).graph
    gelu = next(n for n in graph.nodes if n.target is F.gelu)
    assert (gelu.meta["path"], gelu.meta["source"]) == ("1", "torch.nn.modules.activation.GELU")
    with pytest.raises(ModelRefused, match=r"  1: lp_pool1d at torch\.nn\.modules\.pooling\.LPPool1d: no rule carries"):
        prepare(nn.Sequential(nn.Linear(3, 4), nn.LPPool1d(2, 2)), torch.randn(2, 3, 3))


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the values decide
            return x
        return -x


class Unfinished(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError


def test_data_dependent_control_flow_is_refused_with_its_line() -> None:
    with pytest.raises(ModelRefused) as refused:
        prepare(DataDependent(), torch.randn(2, 3))
    assert f"DataDependent cannot be traced at {line_of('# the values decide')}: if x.sum() > 0:" in str(refused.value)


def test_an_error_without_a_message_is_named() -> None:
    with pytest.raises(ModelRefused, match=r"raise NotImplementedError \(NotImplementedError\)"):
        prepare(Unfinished(), torch.randn(2, 3))
    assert first_line(ValueError("a\nb")) == "ValueError: a"
    assert first_line(ValueError()) == "ValueError"


class ManyArguments(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        scale: float = 2.0,
        pair: tuple[int, int] = (0, 1),
        mask: Tensor | None = None,
        *,
        flag: bool = True,
    ) -> dict[str, Any]:
        h = F.relu(self.a(x) + self.b(y)) * scale
        h = h if mask is None else h * mask
        return {"features": h[:, pair[0] :], "more": (h[:, pair[1] :] if flag else h,)}


def test_two_inputs_defaults_and_nested_outputs(converts: Any) -> None:
    torch.manual_seed(0)
    graph = converts(ManyArguments().double(), torch.randn(3, 3).double(), torch.randn(3, 5).double())
    assert graph.input_shapes == ((3,), (5,))
    found = graph.module(torch.randn(2, 3).double(), torch.randn(2, 5).double())
    assert found["features"].shape == (2, 4)
    assert found["more"][0].shape == (2, 3)


@pytest.mark.parametrize("count", [1, 6])
def test_the_wrong_number_of_inputs_is_refused(count: int) -> None:
    with pytest.raises(ModelRefused, match=rf"ManyArguments.forward takes 2 to 5 tensors, got {count}"):
        prepare(ManyArguments(), tuple(torch.randn(2, 3) for _ in range(count)))


def test_any_number_of_inputs_and_wrappers_are_seen_through(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, on import
        compiled = torch.compile(model)
    for wrapped, name in ((nn.DataParallel(model), "module.1"), (compiled, "1")):
        graph = prepare(wrapped, images)  # type: ignore[arg-type]
        assert [s.name for s in graph.sites] == [name]
        assert torch.equal(graph.module(images), model(images))


def test_a_missing_keyword_argument_is_refused() -> None:
    class Keyword(nn.Module):
        def forward(self, x: Tensor, *, k: Tensor) -> Tensor:
            return F.relu(x) + k

    with pytest.raises(ModelRefused, match=r"Keyword cannot be traced.*keyword-only argument: 'k'"):
        prepare(Keyword(), torch.randn(2, 3))


def test_the_first_argument_may_be_named(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.conv2d(input=x, weight=m.conv.weight, bias=m.conv.bias)
        h = torch.cat(tensors=[F.relu(input=h[:, :2]), F.relu(input=h[:, 2:])], dim=1)
        h = F.max_pool2d(input=h, kernel_size=2)
        h = torch.add(input=h, other=m.scale, alpha=2)
        h = torch.reshape(input=h, shape=(-1, 4, 9, 1))
        return F.linear(input=torch.mean(input=h, dim=(2, 3)), weight=m.fc.weight)

    graph = converts(network(forward), images)
    assert any("2 max-pools moved" in note for note in graph.notes)


def test_a_module_made_in_the_forward_pass_goes_by_its_class(network: Any, images: Tensor, converts: Any) -> None:
    graph = converts(network(lambda m, x: m.head(nn.ReLU()(m.conv(x)) + nn.ReLU()(m.conv2(m.conv(x))))), images)
    assert [s.name for s in graph.sites] == ["ReLU", "ReLU#2"]
    with pytest.raises(ModelRefused, match=r"BatchNorm2d|not installed as a submodule"):
        prepare(network(lambda m, x: m.head(m.relu(nn.BatchNorm2d(4)(m.conv(x))))), images)


def test_forward_hooks_are_part_of_the_model(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    model[1].register_forward_hook(lambda module, given, result: result * 3)
    graph = prepare(model, images)
    assert torch.allclose(graph.module(images), model(images))
    assert len(model[1]._forward_hooks) == 1


@pytest.mark.parametrize("layer", [nn.LSTM(3, 4), nn.GRU(3, 4), nn.RNN(3, 4)], ids=lambda m: type(m).__name__)
def test_recurrent_layers_are_refused_by_path_and_class(network: Any, images: Tensor, layer: nn.Module) -> None:
    model = network(lambda m, x: m.relu(m.deep["rnn"](x.flatten(2))[0]), deep=nn.ModuleDict({"rnn": layer}))
    with pytest.raises(
        ModelRefused, match=rf"recurrent layers carry a state .*\n  deep.rnn: {type(layer).__name__}\nhint: "
    ):
        prepare(model, images)


def test_library_functions_that_ask_not_to_be_traced_are_looked_into(
    network: Any, images: Tensor, converts: Any
) -> None:
    functions: dict[str, Any] = {}
    exec("def library(x): return x.relu() * 2", functions)
    library = functions["library"]
    library.__module__ = "a_library.layers"

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x)
        return m.head(h.tracer.create_proxy("call_function", library, (h,), {}) if hasattr(h, "tracer") else library(h))

    assert [s.name for s in converts(network(forward), images).sites] == ["relu"]


def test_code_may_look_at_types_devices_and_lengths(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.conv(x)).to(x.device).to(dtype=x.dtype)
        assert y.dtype is torch.float64
        assert y.device == x.device
        parts = y.chunk(2, 1)
        assert len(parts) == 2
        grid = torch.arange(y.size(-1), device=y.device, dtype=y.dtype)
        return m.head(torch.cat(parts[::-1], 1) + grid)

    converts(network(forward), images)


def test_a_loop_over_images_is_refused(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: torch.stack([m.relu(row) for row in m.conv(x)]))
    with pytest.raises(ModelRefused, match=r"cannot be traced at .*test_tracing.py:\d+"):
        prepare(model, images)


def test_what_the_model_itself_asserts_is_said_to_be_its_own(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        torch._assert(x.shape[-1] == 16, "expected images of 16 pixels")
        return m.head(m.relu(m.conv(x)))

    with pytest.raises(ModelRefused, match=r"expected images of 16 pixels\)\nhint: .* check the size and the number"):
        prepare(network(forward), images)
