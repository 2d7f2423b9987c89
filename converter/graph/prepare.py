"""Prepare a model for conversion: a canonical graph with named activation sites, and proof that it equals the model."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..errors import DataRefused, ModelRefused
from .audit import Audit, audit
from .batch_norm import fold_batch_norm
from .canonical import Unsupported, canonicalise, respell, unsupported
from .claims import check_claims, check_images
from .masks import spell_masked_writes
from .on_shapes import OnShapes
from .outputs import settle_outputs
from .pooling import move_max_pools
from .proof import DOUBLE_TOLERANCE, Differs, Proof, prove
from .shapes import record_shapes
from .sites import Site, name_sites, site_of
from .specialise import inputs_of, specialise, with_noise
from .spikes import bring_images_first, place_sites
from .tracing import first_line, trace


@dataclass(frozen=True)
class PreparedGraph:
    """A model as a canonical graph: constants, functions of the operation table, and activation sites.

    Args:
        module: computes what the model computes; its children of type `Site` are the activations.
        proof: the comparison with the model.
        input_shapes: the shape of one image of each input, without the batch.
        notes: what was rewritten, one sentence each.
    """

    module: fx.GraphModule
    proof: Proof
    input_shapes: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]

    @property
    def sites(self) -> tuple[Site, ...]:
        """The activation sites, in the order in which they run."""
        return tuple(site for node in self.module.graph.nodes if (site := site_of(node)) is not None)

    @property
    def depth(self) -> int:
        """The number of sites on the longest path from input to output."""
        depth: dict[fx.Node, int] = {}
        for node in self.module.graph.nodes:
            before = max((depth[n] for n in node.all_input_nodes), default=0)
            depth[node] = before + (site_of(node) is not None)
        return max(depth.values(), default=0)

    @property
    def audit(self) -> Audit:
        """What each operation becomes on the way to spikes."""
        return audit(self.module)

    @property
    def weight(self) -> Tensor:
        """Some weight, for its type of number and its device."""
        return next((b for b in self.module.buffers() if b.is_floating_point()), torch.empty(0))

    def check_inputs(self, inputs: tuple[Any, ...]) -> None:
        """Check that ``inputs`` are batches of images as the network takes them.

        Raises:
            DataRefused: another number or shape of inputs, no image, different numbers of images, or another type.
        """
        shapes = tuple(tuple(x.shape[1:]) if isinstance(x, Tensor) else type(x).__name__ for x in inputs)
        if shapes != self.input_shapes:
            raise DataRefused(
                f"the network takes images of shape {_shapes(self.input_shapes)}, got {_shapes(shapes)}",
                "give tensors [batch, channels, ...] of the size and number of channels the network was prepared for",
            )
        sizes = [len(x) for x in inputs]
        if len(set(sizes)) > 1 or not sizes[0]:
            raise DataRefused(
                f"expected the same number of images, at least one, in each input, got {sizes}",
                "put the batch in the first dimension",
            )
        if self.weight.dtype not in (torch.float32, torch.float64):
            raise DataRefused(
                f"the network is in {self.weight.dtype}, too coarse for thresholds and random numbers",
                "call .float() on it",
            )
        for x in inputs:
            if x.device != self.weight.device:
                raise DataRefused(
                    f"the network lies on {self.weight.device}, the images on {x.device}", "move one with .to(device)"
                )
            if x.dtype != self.weight.dtype and (x.is_floating_point() or x.dtype == torch.uint8):
                raise DataRefused(
                    f"the network takes images of {self.weight.dtype}, got {x.dtype}",
                    "normalise the images as in training, and convert them to that type",
                )


def _shapes(shapes: tuple[tuple[int, ...] | str, ...]) -> str:
    return " and ".join(s if isinstance(s, str) else "x".join(map(str, s)) for s in shapes) or "nothing"


def prepare(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> PreparedGraph:
    """Return ``model`` as a canonical graph, compared with it on ``example``; the model itself stays untouched.

    Args:
        model: any traceable module; it is copied, put in evaluation mode, and half precision becomes float32.
        example: one batch [batch, channels, ...], or a tuple with one for each argument of ``forward``.

    Raises:
        ModelRefused: the model cannot be traced, holds operations that cannot be converted (all are named), has no
            activation, fails on the example, or mixes images; or the prepared graph differs from it by more than
            ``TOLERANCE``.
    """
    inputs = inputs_of(example)
    original = copy_of(model)
    like = next((p for p in original.parameters() if p.is_floating_point()), torch.empty(0))
    inputs = with_noise(tuple(x.to(like) for x in inputs))
    module, notes = rewrite(original, inputs)
    try:
        proof = prove(original, module, inputs)
    except Differs:
        check_claims(module, inputs)  # which tells more
        if not _is_rounding(original, inputs):
            raise
        proof = prove(original, module, inputs, math.inf)
        notes.append(f"the model amplifies rounding in float32 to {proof.relative:.2g} of its output's spread")
    check_claims(module, inputs)
    return PreparedGraph(module, proof, tuple(tuple(x.shape[1:]) for x in inputs), tuple(notes))


def rewrite(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[fx.GraphModule, list[str]]:
    """Return ``model`` as a canonical graph with activation sites, and what was rewritten; nothing is compared.

    It needs shapes only: model and inputs may lie on torch's meta device.

    Args:
        model: in evaluation mode; what the graph reads of it is copied.
        inputs: one batch [batch, channels, ...] for each argument of ``forward``.

    Raises:
        ModelRefused: as for `prepare`, but for what only numbers tell.
    """
    on_shapes = OnShapes()
    module = trace(model, inputs, on_shapes)
    settle_outputs(module)
    refuse(unsupported(module))
    return rewrite_traced(module, inputs, on_shapes)


def rewrite_traced(
    module: fx.GraphModule, inputs: tuple[Tensor, ...], on_shapes: OnShapes
) -> tuple[fx.GraphModule, list[str]]:
    """Do the same from the traced graph ``module`` on, in which every operation is supported."""
    shapes, dtype = tuple(tuple(x.shape[1:]) for x in inputs), inputs[0].dtype
    respell(module)
    specialise(module, shapes, dtype, on_shapes)
    canonicalise(module)
    name_sites(module)
    record_shapes(module, shapes, dtype, on_shapes)
    spell_masked_writes(module)
    notes = [*fold_batch_norm(module), *move_max_pools(module)]
    record_shapes(module, shapes, dtype, on_shapes)
    notes += _keep_final_activation(module)
    notes += place_sites(module)
    bring_images_first(module)
    record_shapes(module, shapes, dtype, on_shapes)
    check_images(module)
    _delete_unused(module)
    module.recompile()
    module.requires_grad_(False)
    if not any(isinstance(child, Site) for child in module.children()):
        raise ModelRefused(
            f"{type(module).__name__} has no activation that can spike: a spiking network needs at least one",
            "check that its forward pass calls an activation function whose result reaches a layer with weights",
        )
    return module, notes


def refuse(found: list[Unsupported]) -> None:
    """Raise ModelRefused that names every operation in ``found``, if there is one."""
    if found:
        count = "1 operation" if len(found) == 1 else f"{len(found)} operations"
        raise ModelRefused(f"{count} cannot be converted:\n" + "\n".join(f"  {one}" for one in found))


def copy_of(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` in evaluation mode, without gradients, half precision as float32.

    Raises:
        ModelRefused: it is no module of Python code, or cannot be copied.
    """
    if not isinstance(model, nn.Module):
        raise ModelRefused(
            f"expected a torch.nn.Module, got {type(model).__name__}",
            "build the network and load the weights into it first",
        )
    model = getattr(model, "_orig_mod", model)  # inside torch.compile
    if any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
        raise ModelRefused(f"{type(model).__name__} is or holds TorchScript", "give the Python model it was made from")
    try:
        copied = copy.deepcopy(model).eval().requires_grad_(False)
    except Exception as error:
        raise ModelRefused(
            f"{type(model).__name__} cannot be copied ({first_line(error)})",
            "remove what it keeps besides parameters and buffers, such as the old torch.nn.utils.weight_norm",
        ) from error
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in copied.parameters())
    return copied.float() if half else copied


def _is_rounding(original: nn.Module, inputs: tuple[Tensor, ...]) -> bool:
    """Return whether a difference between model and prepared graph vanishes in double precision."""
    if inputs[0].dtype is torch.float64:
        return False
    double, inputs = copy.deepcopy(original).double(), tuple(x.double() for x in inputs)
    try:
        prove(double, rewrite(double, inputs)[0], inputs, DOUBLE_TOLERANCE)
    except (ModelRefused, RuntimeError):  # the model may insist on float32
        return False
    return True


def _delete_unused(module: fx.GraphModule) -> None:
    """Delete what no node reads, such as the weights from before a batch norm was folded in."""
    module.delete_all_unused_submodules()
    read = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    for name in [n for n, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]:
        if name not in read:
            delattr(module, name)


def _keep_final_activation(module: fx.GraphModule) -> list[str]:
    """Leave an activation that only the output reads as a function on the window's mean, in place."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    notes = []
    for node in output.all_input_nodes:
        site = site_of(node)
        if site is None or len(node.users) > 1:
            continue
        with module.graph.inserting_before(node):
            if site.cap is None:
                final = module.graph.call_function(torch.relu, node.args)
            else:
                final = module.graph.call_function(torch.clamp, (node.args[0], 0.0, site.cap))
        final.meta = dict(node.meta)
        node.replace_all_uses_with(final)
        module.graph.erase_node(node)
        notes.append(f"{site.name} is the network's output and stays analog")
    return notes
