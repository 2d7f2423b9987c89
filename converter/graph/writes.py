"""Give what a model writes in place a name of its own: nothing in a canonical graph overwrites anything.

``y.relu_()`` changes what every later reader of ``y`` sees, and of every tensor that shares its memory.
"""

import inspect
import operator
from typing import Any

from torch import fx

from . import functions
from .signals import is_structure, structure
from .spellings import COPIES_AT_TIMES, IDENTITIES, IN_PLACE, RESHAPES, SYNONYMS, UNPACKED, VIEWS

ADVICE = "it changes memory that the model later reads by another name; write y = y.relu(), not y.relu_()"


class Writes:
    """The current value of each tensor that the nodes of a graph, visited in order, have overwritten so far."""

    def __init__(self) -> None:
        self.names: dict[fx.Node, fx.Node] = {}  # what an in-place call returns -> the tensor it has overwritten
        self.values: dict[fx.Node, fx.Node] = {}  # a tensor -> the node that holds its numbers now
        self.views: dict[fx.Node, fx.Node] = {}  # a view -> the tensor it looks at
        self.stale: set[fx.Node] = set()  # views of what was overwritten since they were taken

    def follow(self, node: fx.Node, numbers: set[fx.Node]) -> None:
        """Make ``node`` read current values; if it overwrites a tensor, later nodes will read what it makes.

        Args:
            numbers: the nodes before it that hold structure, as `signals.structure`. A number is never overwritten.
        """
        source, written = _shared(node, numbers), overwritten(node)
        for read in node.all_input_nodes:
            self._refresh(self._name(read), node)
        node.args, node.kwargs = fx.node.map_arg((node.args, node.kwargs), self._value)
        if written is not None and not is_structure(node, numbers):
            self.names[node] = self._name(written)
            self._write(self._name(written), node, numbers)
        elif source is not None:
            self.views[node] = self._name(source)
        _drop_inplace_argument(node)

    def _name(self, node: fx.Node) -> fx.Node:
        """Return the first name of the tensor that ``node`` holds."""
        return self.names.get(node, node)

    def _value(self, node: fx.Node) -> fx.Node:
        return self.values.get(self._name(node), node)

    def _write(self, name: fx.Node, value: fx.Node, numbers: set[fx.Node]) -> None:
        """Make ``value`` that of ``name``, and write it back into what ``name`` is a slice of."""
        self.values[name] = value
        self._make_stale(name)
        base = self.views.get(name)
        if base is None or not is_slice(name, numbers):
            return
        graph = value.graph
        with graph.inserting_after(value):
            whole = graph.call_function(functions.assign, (self._value(base), name.args[1], value))
        whole.meta = dict(value.meta)
        self._write(base, whole, numbers)
        self.stale.discard(name)

    def _make_stale(self, base: fx.Node) -> None:
        for view, of in self.views.items():
            if of is base and view not in self.stale:
                self.stale.add(view)
                self._make_stale(view)

    def _refresh(self, name: fx.Node, reader: fx.Node) -> None:
        """Take the view ``name`` once more, before ``reader``, if what it is a view of was overwritten."""
        if name not in self.stale:
            return
        base = self.views[name]
        self._refresh(base, reader)
        with reader.graph.inserting_before(reader):
            view = self.values[name] = reader.graph.node_copy(name)
        view.args = (self._value(base), *name.args[1:])
        self.stale.discard(name)


def lost_writes(graph: fx.Graph) -> list[fx.Node]:
    """Return the calls after which ``graph`` reads overwritten memory by a name that `Writes` may not follow."""
    numbers = structure(graph)
    order = {node: i for i, node in enumerate(graph.nodes)}
    source = {node: overwritten(node) or _shared(node, numbers) or _maybe_shared(node) for node in graph.nodes}
    holders: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.nodes:
        holders.setdefault(_path(node, source)[-1], []).append(node)
    lost = []
    for node in graph.nodes:
        written = overwritten(node)
        if written is None:
            continue
        followed = _followed(written, source, numbers)
        for holder in holders[_path(node, source)[-1]]:
            path = _path(holder, source)
            sure = next((i for i, n in enumerate(path) if n in followed), None)
            known = sure is not None and not any(_maybe_shared(n) for n in path[:sure])
            if known or order[holder] > order[node] or _is_another_part(written, path, source):
                continue
            if any(order[reader] > order[node] and reader not in numbers for reader in holder.users):
                lost.append(node)
                break
    return lost


def _path(node: fx.Node, source: dict[fx.Node, fx.Node | None]) -> list[fx.Node]:
    """Return ``node``, what it is a view of, and so on, to the call that made the memory."""
    path = [node]
    while (before := source[path[-1]]) is not None:
        path.append(before)
    return path


def _followed(written: fx.Node, source: dict[fx.Node, fx.Node | None], numbers: set[fx.Node]) -> set[fx.Node]:
    """Return the names of ``written``, and of what it is a slice of."""
    found, name = {written}, written
    while (before := source[name]) is not None and (overwritten(name) is not None or is_slice(name, numbers)):
        found.add(before)
        name = before
    return found


def _is_another_part(written: fx.Node, path: list[fx.Node], source: dict[fx.Node, fx.Node | None]) -> bool:
    """Return whether ``path`` ends in another part of a split tensor than the one that is written."""
    mine = {n.args[0]: n for n in _path(written, source) if _is_part_of_several(n)}
    return any(_is_part_of_several(n) and mine.get(n.args[0], n) is not n for n in path)


def is_slice(node: fx.Node, numbers: set[fx.Node]) -> bool:
    """Return whether ``node`` is ``x[index]`` with numbers and ranges alone, which shares the memory of x."""
    if node.target is not operator.getitem or _is_part_of_several(node):
        return False
    parts: list[Any] = []
    for part in node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],):
        parts += (part.start, part.stop, part.step) if isinstance(part, slice) else (part,)
    return all(part is None or part is ... or isinstance(part, int) or part in numbers for part in parts)


def overwritten(node: fx.Node) -> fx.Node | None:
    """Return the node whose memory the call ``node`` overwrites, None where it overwrites nothing."""
    if node.op not in ("call_function", "call_method") or not node.args or not isinstance(node.args[0], fx.Node):
        return None
    in_place = _inplace_argument(node)[0] or node.target in IN_PLACE or _is_named_in_place(node.target)
    return node.args[0] if in_place and node.target not in IDENTITIES else None


def _is_named_in_place(target: Any) -> bool:
    """Return whether ``target`` is torch's, and has the name that torch gives to what overwrites."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    torch_owns_it = isinstance(target, str) or str(getattr(target, "__module__", None) or "torch").startswith("torch")
    return name.endswith("_") and not name.startswith("_") and torch_owns_it


def _shared(node: fx.Node, numbers: set[fx.Node]) -> fx.Node | None:
    """Return the node whose memory, all or a part of it, ``node`` is another view of."""
    views = node.target in VIEWS or node.target in UNPACKED
    if not views and node.target is operator.getitem:
        views = _is_part_of_several(node) or is_slice(node, numbers)
    source = node.args[0] if views and node.args else None
    return source if isinstance(source, fx.Node) else None


def _maybe_shared(node: fx.Node) -> fx.Node | None:
    """Return the node whose memory ``node`` holds at times: a reshape, a copy that is none where nothing changes."""
    if node.target in VIEWS:
        return None
    maybe = SYNONYMS.get(node.target, node.target) in RESHAPES | COPIES_AT_TIMES
    source = node.args[0] if maybe and node.args else None
    return source if isinstance(source, fx.Node) else None


def _is_part_of_several(node: fx.Node) -> bool:
    several = node.args[0] if node.target is operator.getitem else None
    return isinstance(several, fx.Node) and several.target in UNPACKED


def _inplace_argument(node: fx.Node) -> tuple[bool, list[str], int]:
    """Return the value of the argument ``inplace`` of a call, the names of all arguments, and its place, or -1."""
    if node.op != "call_function" or not inspect.isfunction(node.target):
        return False, [], -1
    names = list(inspect.signature(node.target).parameters)
    if "inplace" not in names:
        return False, names, -1
    place = names.index("inplace")
    given = node.args[place] if len(node.args) > place else node.kwargs.get("inplace", False)
    return bool(given), names, place


def _drop_inplace_argument(node: fx.Node) -> None:
    _, names, place = _inplace_argument(node)
    if place < 0:
        return
    following = dict(zip(names[place + 1 :], node.args[place + 1 :], strict=False))
    others = {k: v for k, v in node.kwargs.items() if k != "inplace"}
    node.args, node.kwargs = node.args[:place], {**others, **following}
