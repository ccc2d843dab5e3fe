"""Which tensors depend on which: the two walks that every rewrite starts from."""

from collections.abc import Callable, Iterable, Iterator

import onnx_ir as ir


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values a node reads, those captured by its nested graphs (If, Loop, Scan) included."""
    yield from (value for value in node.inputs if value is not None)
    yield from captured(node)


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """The outer values that the nested graphs of a node read."""
    for graph in nested_graphs(node):
        for inner in graph:
            yield from (value for value in reads(inner) if value.graph is not graph)


def nested_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node holds: the branches of an If, the body of a Loop or Scan."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def dependents(graph: ir.Graph, sources: Iterable[ir.Value]) -> set[ir.Value]:
    """`sources` and every value of the outer graph computed from them."""
    return affected(graph, sources)


def affected(
    nodes: Iterable[ir.Node],
    sources: Iterable[ir.Value],
    stops: Callable[[ir.Node], bool] = lambda _node: False,
) -> set[ir.Value]:
    """`sources` and all that `nodes`, in the order in which they run, compute from them; not past `stops`."""
    reached = set(sources)
    for node in nodes:
        if any(value in reached for value in reads(node)) and not stops(node):
            reached.update(node.outputs)
    return reached


def ancestors(targets: Iterable[ir.Value]) -> set[ir.Value]:
    """`targets` and every value that they are computed from."""
    found: set[ir.Value] = set()
    pending = list(targets)
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        node = value.producer()
        if node is not None:
            pending.extend(reads(node))
    return found
