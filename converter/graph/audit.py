"""The audit: what each operation of a network becomes on the way to spikes, and what the whole may be called."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import fx

from ..errors import ModelRefused, listed
from .canonical import Unsupported, describe
from .operations import Kind
from .signals import constants, kind_of
from .sites import Site, site_of

_FAULT = "this is a fault of snnconvert: please report it"


class Role(StrEnum):
    """What an operation becomes."""

    SITE = "spiking site"
    LINEAR = "linear"
    WINDOW = "exact in the window"
    ANALOG = "analog"
    UNSUPPORTED = "unsupported"


_ADVICE = {
    Role.WINDOW: "exact: applied once to the mean of a window, never to single spikes",
    Role.ANALOG: "computed outside of spikes, once per window, by the host of the chip; --strict refuses it",
}


@dataclass(frozen=True)
class Entry:
    """One operation on a signal.

    Args:
        name: of the operation ("conv2d", "relu"); of a site, that of the site.
        role: what it becomes.
        path: of the module that makes the call.
        source: the line of the model's code, empty where it is not known.
        spikes: what travels on a site's output wire, "binary" or "ternary"; None elsewhere.
        function: the activation function that a site's neurons encode, None where that is a ReLU.
        advice: what to do or to know, where there is something.
    """

    name: str
    role: Role
    path: str
    source: str
    spikes: str | None = None
    function: str | None = None
    advice: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types, without what is not there."""
        return {key: str(value) for key, value in vars(self).items() if value}


@dataclass(frozen=True)
class Audit:
    """What a network becomes.

    Args:
        operations: every operation on a signal, in the order in which they run.
        reasons: why the network cannot be converted, one sentence each; empty where it can.
    """

    operations: tuple[Entry, ...]
    reasons: tuple[str, ...] = ()

    def of(self, role: Role) -> tuple[Entry, ...]:
        """The operations with that role."""
        return tuple(entry for entry in self.operations if entry.role is role)

    @property
    def convertible(self) -> bool:
        """Whether nothing speaks against a conversion."""
        return not self.reasons

    @property
    def spiking(self) -> bool:
        """Whether no operation is analog."""
        return self.convertible and not self.of(Role.ANALOG)

    @property
    def neurons(self) -> dict[str, str | None]:
        """For each neuron model to convert to why it cannot take the sites of this network, or None where it can."""
        refusal = "; ".join(self.reasons) or None
        others = [entry.name for entry in self.of(Role.SITE) if entry.spikes == "ternary" or entry.function]
        streaming = refusal or (no_streaming(others) if others else None)
        return {"if": streaming, "two-phase": refusal, "tpp": refusal}

    def require(self, neuron: str) -> None:
        """Check that the neuron model ``neuron`` can take every site.

        Raises:
            ModelRefused: it cannot; the message says why.
        """
        reason = self.neurons["if" if neuron == "lif" else neuron]  # which stream alike
        if reason is not None:
            raise ModelRefused(reason)

    @property
    def executors(self) -> dict[str, tuple[str, ...]]:
        """The executors that run the network with each neuron model that takes it, the fastest first."""
        all_of_them = {"if": ("layers", "steps"), "two-phase": ("counts", "layers", "steps")}
        all_of_them["tpp"] = all_of_them["two-phase"]
        return {name: all_of_them[name] for name, reason in self.neurons.items() if reason is None}

    @property
    def verdict(self) -> str:
        """What the network may be called, in one line."""
        if not self.convertible:
            return f"not convertible: {listed(self.reasons, '; ')}"
        kinds = Counter(str(entry.spikes) for entry in self.of(Role.SITE))
        sites = f"{kinds.total()} site{'s' * (kinds.total() > 1)}, " + (
            f"all {next(iter(kinds))}" if len(kinds) == 1 else ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        )
        analog = Counter(entry.name for entry in self.of(Role.ANALOG))
        if not analog:
            return f"spiking network: {sites}"
        return (
            f"hybrid: {sites}; {analog.total()} analog operation{'s' * (analog.total() > 1)} "
            f"({', '.join(f'{n} {name}' for name, n in analog.most_common())})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "verdict": self.verdict,
            "convertible": self.convertible,
            "spiking": self.spiking,
            "reasons": list(self.reasons),
            "neurons": self.neurons,
            "executors": {name: list(known) for name, known in self.executors.items()},
            "sites": {entry.name: entry.spikes for entry in self.of(Role.SITE)},
            "analog": [entry.to_json() for entry in self.of(Role.ANALOG)],
            "counts": dict(Counter(str(entry.role) for entry in self.operations)),
            "operations": [entry.to_json() for entry in self.operations],
        }


def no_streaming(names: list[str]) -> str:
    """Return why a streaming neuron cannot take the sites ``names``."""
    verb = "is" if len(names) == 1 else "are"
    return (
        f"'if' neurons fire while they integrate and take the ReLU family only, and {len(names)} "
        f"site{'s' * (len(names) > 1)} {verb} of other functions, or must fire spikes of both signs ({listed(names)}); "
        "use 'two-phase' or 'tpp'"
    )


def audit(module: fx.GraphModule) -> Audit:
    """Return what each operation of a canonical graph is; it fails closed.

    Raises:
        ModelRefused: a site that nothing calls, or that is called twice; an operation without a known kind.
    """
    fixed = constants(module.graph)
    calls = Counter(str(node.target) for node in module.graph.nodes if node.op == "call_module")
    for child, site in module.named_children():
        if isinstance(site, Site) and calls[child] != 1:
            raise ModelRefused(f"the neurons of {site.name} are called {calls[child]} times instead of once", _FAULT)
    entries = []
    for node in module.graph.nodes:
        if node in fixed or node.op in ("placeholder", "output") or _inside_a_site(node, fixed):
            continue
        entries.append(_entry(node, fixed))
    return Audit(tuple(entries))


def _inside_a_site(node: fx.Node, fixed: set[fx.Node]) -> bool:
    """Return whether ``node`` is an activation function whose value only sites' neurons read."""
    return kind_of(node, fixed) is Kind.ACTIVATION and _only_sites_read(node)


def _only_sites_read(node: fx.Node) -> bool:
    readers = list(node.users)
    return bool(readers) and all(
        site_of(reader) is not None or (reader.target is torch.transpose and _only_sites_read(reader))
        for reader in readers
    )


def _entry(node: fx.Node, fixed: set[fx.Node]) -> Entry:
    path, source = node.meta.get("path") or "", node.meta.get("source") or ""
    site = site_of(node)
    if site is not None:
        before = node.all_input_nodes[0]
        while before.target is torch.transpose and _only_sites_read(before):
            before = before.all_input_nodes[0]
        function = describe(before) if _inside_a_site(before, fixed) else None
        return Entry(site.name, Role.SITE, path, source, site.spikes, function)
    kind = kind_of(node, fixed)
    if kind is None:
        raise ModelRefused(f"{describe(node)} at {path} has no place in a spiking network", _FAULT)
    role = {Kind.LINEAR: Role.LINEAR, Kind.WINDOW: Role.WINDOW}.get(kind, Role.ANALOG)
    return Entry(describe(node), role, path, source, advice=_ADVICE.get(role))


def refusal(found: list[Unsupported], others: Iterable[Entry] = ()) -> Audit:
    """Return the audit of a network that holds operations which cannot be converted."""
    entries = [Entry(one.name, Role.UNSUPPORTED, one.path, one.source, advice=one.advice) for one in found]
    return Audit((*others, *entries), tuple(str(one) for one in found))
