"""When each node of a graph speaks: windows, levels, latency and memory.

A node's *level* is the window in which its train runs. A streaming neuron answers in the window of its input; a two-
phase or shuffled one in the next. An operation that is exact only on window means is applied when the window closes,
and its value is then held for the next window; where only two-phase sites read it, they take it at the close, which
costs nothing.
"""

import copy
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from torch import fx

from ..graph.operations import Kind
from ..graph.signals import constant_in_time, constants, kind_of
from ..graph.sites import site_of


@dataclass(frozen=True, eq=False)
class Schedule:
    """The timing of ``graph``.

    Args:
        graph: a canonical graph; each node's ``meta["shape"]`` is known.
        streaming: the neurons fire in the step in which they integrate.
        shuffled: trains are re-ordered before they leave their site.
    """

    graph: fx.Graph
    streaming: bool
    shuffled: bool

    def __deepcopy__(self, memo: dict[int, Any]) -> "Schedule":
        """Copy the graph, and forget what was derived of its nodes."""
        return Schedule(copy.deepcopy(self.graph, memo), self.streaming, self.shuffled)

    @cached_property
    def constant(self) -> set[fx.Node]:
        """The nodes that carry the same value at every step."""
        return constant_in_time(self.graph)

    @cached_property
    def weights(self) -> set[fx.Node]:
        """The nodes that depend on no input."""
        return constants(self.graph)

    @cached_property
    def nonlinear(self) -> set[fx.Node]:
        """The operations on spikes that may not be applied step by step."""
        kinds = {n: kind_of(n, self.weights) for n in self.graph.nodes}
        return {n for n, kind in kinds.items() if kind not in (None, Kind.LINEAR) and n not in self.constant}

    @cached_property
    def windowed(self) -> set[fx.Node]:
        """The operations that are applied once per window: the nonlinear ones, and linear ones on their values."""
        found: set[fx.Node] = set()
        for node in self.graph.nodes if not self.streaming else ():
            inputs = [n for n in node.all_input_nodes if n not in self.constant]
            if node in self.nonlinear or (node.op == "call_function" and inputs and all(n in found for n in inputs)):
                found.add(node)
        return found

    @cached_property
    def delayed(self) -> bool:
        """Whether a site's train leaves one window after its input."""
        return self.shuffled or not self.streaming

    @cached_property
    def level(self) -> dict[fx.Node, int]:
        """The window, from 0, in which each node's train runs; a windowed value is known when the one before closes."""
        level: dict[fx.Node, int] = {}
        for node in self.graph.nodes:
            waits = node in self.windowed or (site_of(node) is not None and self.delayed)
            inputs = node.all_input_nodes
            level[node] = max((level[n] + (waits and n not in self.windowed) for n in inputs), default=0)
        return level

    @cached_property
    def windows(self) -> int:
        """The number of windows until the output is known."""
        output = next(n for n in self.graph.nodes if n.op == "output")
        return max(self.level[n] + (n not in self.windowed) for n in output.all_input_nodes)

    @cached_property
    def last_reader(self) -> dict[fx.Node, fx.Node]:
        """The last node that reads each node's value."""
        last: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            for source in node.all_input_nodes:
                last[source] = node
        return last

    @cached_property
    def read_last_by(self) -> dict[fx.Node, list[fx.Node]]:
        """The nodes whose value nobody reads after each node; not those that the output reads."""
        found: dict[fx.Node, list[fx.Node]] = {}
        for source, reader in self.last_reader.items():
            if reader.op != "output":
                found.setdefault(reader, []).append(source)
        return found

    @cached_property
    def values_per_image(self) -> int:
        """The largest number of values that are alive at once for one image and one step."""
        alive: dict[fx.Node, int] = {}
        most = 0
        for node in self.graph.nodes:
            alive[node] = 0 if node in self.weights else prod(node.meta.get("shape", (1,)))
            most = max(most, sum(alive.values()))
            for source in node.all_input_nodes:
                if self.last_reader[source] is node:
                    alive.pop(source, None)
        return most
