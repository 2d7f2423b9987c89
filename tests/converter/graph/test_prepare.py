"""Preparing a whole model: the proof, what is refused, and that the model stays as it was."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import Proof, Site, prepare
from snnconvert.converter.graph import prepare as package_prepare
from snnconvert.converter.graph.operations import OPERATIONS
from snnconvert.converter.graph.prepare import PreparedGraph
from snnconvert.converter.graph.proof import prove


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 1))
        self.pool, self.drop, self.fc = nn.MaxPool2d(2), nn.Dropout(0.5), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        x = F.relu(x + self.block(x), inplace=True)
        return self.fc(self.drop(x.view(x.size(0), -1)))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    model = Everything()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(8, 3, 8, 8) * 2 + 1)
    return model.eval()


def test_a_prepared_graph_says_what_was_done(model: nn.Module) -> None:
    x = torch.randn(4, 3, 8, 8)
    graph = prepare(model, x)
    assert isinstance(graph, PreparedGraph)
    assert torch.allclose(graph.module(x), model(x), atol=1e-5)
    assert [(s.name, s.cap, s.shape) for s in graph.sites] == [
        ("stem.2", None, (8, 4, 4)),
        ("block.2", 6.0, (8, 4, 4)),
        ("relu", None, (8, 4, 4)),
    ]
    assert graph.depth == 3
    assert graph.input_shapes == ((3, 8, 8),)
    assert graph.notes == ("2 batch norms folded into the layer before", "1 max-pool moved before the activation")
    assert all(n.target in OPERATIONS for n in graph.module.graph.nodes if n.op == "call_function")
    assert all(isinstance(m, Site) for m in graph.module.children())
    constants = {n.target for n in graph.module.graph.nodes if n.op == "get_attr"}
    assert set(graph.module.state_dict()) == constants  # no weights from before the batch norms were folded
    assert not any(t.requires_grad for t in [*graph.module.parameters(), *graph.module.buffers()])


def test_the_model_is_left_untouched(model: nn.Module) -> None:
    model.train()
    model.block.eval()
    seen: list[str] = []
    model.stem.register_forward_pre_hook(lambda module, given: None)
    model.register_full_backward_hook(lambda module, given, out: seen.append("backward"))
    before = copy.deepcopy(model.state_dict())
    flags = {name: m.training for name, m in model.named_modules()}
    gradients = {name: p.requires_grad for name, p in model.named_parameters()}
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    kept = x.detach().clone()
    graph = prepare(model, x)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert flags == {name: m.training for name, m in model.named_modules()}
    assert gradients == {name: p.requires_grad for name, p in model.named_parameters()}
    assert len(model.stem._forward_pre_hooks) == 1
    assert torch.equal(x, kept)
    assert seen == []
    own = {t.data_ptr() for t in model.state_dict().values()}
    assert not own & {b.data_ptr() for b in graph.module.buffers()}


def test_the_proof_is_the_largest_difference(model: nn.Module) -> None:
    x = torch.randn(4, 3, 8, 8)
    module = copy.deepcopy(prepare(model, x).module)
    with torch.no_grad():
        expected = model(x)
        spread = expected.max() - expected.min()
        last = next(n for n in reversed(module.graph.nodes) if n.op == "get_attr")
        getattr(module, str(last.target)).add_(0.5e-4 * spread)  # the bias of the last layer
        difference = (module(x) - expected).abs().max()
    proof = prove(model, module, (x,))
    assert proof == Proof(float(difference), float(difference) / float(spread), 4)
    assert 0.4e-4 < proof.relative < 0.6e-4
    getattr(module, str(last.target)).add_(1e-4 * spread)
    with pytest.raises(ModelRefused, match=r"differs from the model by .* 0.00015 of the output's spread"):
        prove(model, module, (x,))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_prepared_graph_that_is_not_finite_is_refused(model: nn.Module, value: float) -> None:
    x = torch.randn(2, 3, 8, 8)
    module = prepare(model, x).module
    next(iter(module.buffers())).fill_(value)
    with pytest.raises(ModelRefused, match="prepared graph differs"):
        prove(model, module, (x,))


def test_an_output_of_another_shape_is_refused() -> None:
    class Broadcast(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    with pytest.raises(ModelRefused, match="differs from the model by inf"):
        prove(nn.Identity(), fx.symbolic_trace(Broadcast()), (torch.ones(2, 3),))


def forget_the_batch_norm(module: fx.GraphModule) -> list[str]:
    for node in [n for n in module.graph.nodes if n.target is F.batch_norm]:
        node.replace_all_uses_with(node.args[0])
        module.graph.erase_node(node)
    return []


def pool_by_average(module: fx.GraphModule) -> list[str]:
    for node in [n for n in module.graph.nodes if n.target is F.max_pool2d]:
        node.target, node.args, node.kwargs = F.avg_pool2d, (node.args[0], 2), {}
    return []


@pytest.mark.parametrize(
    ("name", "wrong"), [("fold_batch_norm", forget_the_batch_norm), ("move_max_pools", pool_by_average)]
)
@pytest.mark.parametrize("example", [torch.randn(2, 3, 8, 8), torch.zeros(1, 3, 8, 8)], ids=["noise", "zeros"])
def test_a_wrong_pass_is_found(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str, wrong: Any, example: Tensor
) -> None:
    monkeypatch.setitem(package_prepare.__globals__, name, wrong)
    with pytest.raises(ModelRefused, match="prepared graph differs from the model"):
        prepare(model, example)


def test_a_pass_that_breaks_the_graph_is_found(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: fx.GraphModule) -> list[str]:
        next(n for n in module.graph.nodes if n.target is F.linear).args = ()
        return []

    monkeypatch.setitem(package_prepare.__globals__, "fold_batch_norm", wrong)
    with pytest.raises(ModelRefused, match=r"TypeError: linear\(\) missing"):
        prepare(model, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_proof_covers_the_example_and_one_image_of_noise(model: nn.Module, count: int) -> None:
    proof = prepare(model, torch.randn(count, 3, 8, 8)).proof
    assert proof.images == count + 1
    assert 0 < proof.relative < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_precision_is_prepared(model: nn.Module, dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 8, 8)
    typed = model.to(dtype)
    graph = prepare(typed, x)
    expected = torch.float64 if dtype is torch.float64 else torch.float32
    assert {b.dtype for b in graph.module.buffers()} == {expected}
    assert next(typed.parameters()).dtype is dtype
    found = graph.module(x.to(expected))
    assert torch.allclose(found, copy.deepcopy(typed).to(expected)(x.to(expected)), atol=1e-5)


def test_nan_weights_are_refused(model: nn.Module) -> None:
    with torch.no_grad():
        model.stem[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelRefused, match="output holds NaN or infinity on the example\nhint: check its weights"):
        prepare(model, torch.randn(2, 3, 8, 8))


@pytest.mark.parametrize(
    ("given", "name"), [({"weight": 1}, "dict"), ("resnet18", "str"), (None, "NoneType"), (nn.ReLU, "type")]
)
def test_what_is_no_model_is_refused(given: Any, name: str) -> None:
    with pytest.raises(ModelRefused, match=f"expected a torch.nn.Module, got {name}"):
        prepare(given, torch.randn(2, 3))


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))
            self.computed = self.weight * 2

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) * self.computed

    with pytest.raises(ModelRefused, match=r"Holds cannot be copied .*deepcopy"):
        prepare(Holds(), torch.randn(2, 3))
    with pytest.raises(ModelRefused, match=r"LazyLinear cannot be copied .*uninitialized"):
        prepare(nn.LazyLinear(3), torch.randn(2, 3))


def test_a_model_without_activation_is_refused() -> None:
    for model in (nn.Linear(3, 4), nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval(), nn.Identity()):
        with pytest.raises(ModelRefused, match=f"{type(model).__name__} has no activation that can spike"):
            prepare(model, torch.randn(2, 3))


@pytest.mark.parametrize(
    ("final", "function"), [(F.relu, "relu"), (F.relu6, "clamp"), (lambda x: x.clamp(0, 1), "clamp")]
)
def test_a_final_activation_stays_analog(
    network: Any, images: Tensor, converts: Any, final: Any, function: str
) -> None:
    graph = converts(network(lambda m, x: final(m.head(m.relu(m.conv(x))))), images)
    assert [s.name for s in graph.sites] == ["relu"]
    assert any(note.endswith("is the network's output and stays analog") for note in graph.notes)
    last = list(graph.module.graph.nodes)[-2]
    assert OPERATIONS[last.target].name == function


def test_an_activation_that_is_an_output_among_others_spikes(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        h = m.relu(m.conv(x))
        return {"logits": m.head(h), "features": [h, (x.mean((2, 3)), m.relu(m.conv2(h)))]}

    graph = converts(network(forward), images)
    assert [s.name for s in graph.sites] == ["relu"]
    assert any(note.startswith("relu#2 is the network's output") for note in graph.notes)


def test_depth_counts_the_longest_path(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        short = m.relu(m.conv(x))
        return m.head(short + m.relu(m.conv2(m.relu(m.conv2(short)))))

    graph = prepare(network(forward), images)
    assert (graph.depth, len(graph.sites)) == (3, 3)


def test_another_image_size_or_batch_needs_nothing_new(model: nn.Module) -> None:
    graph = prepare(model, torch.randn(2, 3, 8, 8))
    for batch in (1, 7):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.allclose(graph.module(x), model(x), atol=1e-5)


def test_two_inputs_meet(network: Any, converts: Any) -> None:
    model = network(lambda m, x, y: m.head(m.relu(m.conv(x) + m.conv(y)) + m.relu(m.conv(y))))
    graph = converts(model, torch.randn(3, 3, 6, 6).double(), torch.randn(3, 3, 6, 6).double())
    assert graph.input_shapes == ((3, 6, 6), (3, 6, 6))
