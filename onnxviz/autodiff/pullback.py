"""The reverse walk: from the cotangent of one tensor to those of the tensors it depends on."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from onnxviz.autodiff.ruleset import GRADIENT, ZERO, RuleSet, node_name
from onnxviz.autodiff.variants import RULE_SETS
from onnxviz.errors import DisconnectedError, SelectorError, ShapeError, UnsupportedOperator, did_you_mean
from onnxviz.graph.expose import prune
from onnxviz.graph.flow import dependents, reads
from onnxviz.graph.model import Model, ModelLike, load
from onnxviz.graph.normalise import refresh_shapes
from onnxviz.graph.ops import Ops

FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def gradient(
    model: ModelLike,
    of: str,
    wrt: str | Sequence[str],
    rules: str | RuleSet = "auto",
    keep: Sequence[str] = (),
) -> Model:
    """The model that computes the vector-Jacobian product of tensor `of` with respect to the tensors `wrt`.

    Its new input `<of>_grad`, of `of`'s type and shape, takes the cotangent (a rank-0 `of` adds none: its
    cotangent is 1); its outputs are `<w>_grad` for each w, of w's type and shape, then the tensors in
    `keep`, and nothing else. Where such a name is taken, `_2`, `_3` ... is added: `model.gradients` and
    `model.cotangent` say the names.

    Args:
        model: A model, path or proto.
        of: Any tensor of floats.
        wrt: Any tensors of floats: inputs, weights or inner ones.
        rules: The name of a rule set, or one of your own.
        keep: Tensors of the model to output beside the gradients.

    Raises:
        SelectorError: A tensor or rule set is not known.
        DisconnectedError: `of` does not depend on a tensor of `wrt`, or only through a step function.
        UnsupportedOperator: An operator between them has no rule; the message names the node.
        ShapeError: A rank that a rule needs is not known, or a tensor is not of floats.
    """
    model = load(model)
    rule_set = find_rules(rules)
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    for name in (of, *names, *keep):
        model.tensor(name)
    copy = model.ir_model.clone()
    graph = copy.graph
    values = ir.convenience.create_value_mapping(graph, include_subgraphs=False)
    target, sources = values[of], {name: values[name] for name in names}
    for value in (target, *sources.values()):
        if value.dtype not in FLOATS:
            raise ShapeError(f"tensor {value.name!r} does not hold floats, so it has no gradient")

    op = Ops(graph, prefix="gradient")
    seed = _seed(op, graph, target, values)
    found = pull_back(op, graph, target, seed, list(sources.values()), rule_set)

    outputs = [values[name] for name in dict.fromkeys(keep)]
    gradients = {}
    graph.outputs.clear()
    for name, source in sources.items():
        answer = op.Identity(found[source])
        answer.name = gradients[name] = fresh_name(f"{name}_grad", values)
        values[answer.name] = answer
        answer.type, answer.shape = source.type, source.shape
        graph.outputs.append(answer)
    graph.outputs.extend(outputs)
    prune(copy)
    cotangent = seed.name if seed.is_graph_input() else None
    return Model(refresh_shapes(copy), model.path).marked_as_gradient(gradients, cotangent)


def pull_back(
    op: Ops, graph: ir.Graph, target: ir.Value, seed: ir.Value, sources: Sequence[ir.Value], rules: RuleSet
) -> Mapping[ir.Value, ir.Value]:
    """Write the nodes that compute the cotangent of each source from that of the target.

    Raises:
        DisconnectedError: No cotangent reaches a source.
        UnsupportedOperator: A rule, or its answer for an input that leads to a source, is missing.
    """
    reached = dependents(graph, sources)
    for source in sources:
        if target not in (reached if len(sources) == 1 else dependents(graph, [source])):
            raise DisconnectedError(f"{target.name!r} does not depend on {source.name!r}")
    cotangents = {target: seed}
    stopped: list[tuple[ir.Value, ir.Node]] = []
    forward = [node for node in graph if any(value in reached for value in reads(node))]
    for node in reversed(forward):
        arriving = [cotangents.get(output) for output in node.outputs]
        if all(cotangent is None for cotangent in arriving):
            continue
        answers = rules.find(node)(op, node, *arriving)
        for value, answer in zip(node.inputs, answers, strict=True):
            if value is None or value not in reached:
                continue
            if answer is None:
                raise UnsupportedOperator(
                    f"the {rules.name!r} rule for {node.op_type} (node {node_name(node)!r}) has no gradient "
                    f"for its input {value.name!r}, which {', '.join(repr(s.name) for s in sources)} leads to"
                )
            if answer is ZERO:
                stopped.append((value, node))
                continue
            if value in cotangents:
                answer = op.Add(cotangents[value], answer)
            # A cotangent is shaped like its primal: no shape of the backward graph need be inferred.
            answer.type, answer.shape = value.type or answer.type, value.shape
            cotangents[value] = answer
    for source in sources:
        if source not in cotangents:
            raise DisconnectedError(_why_stopped(graph, target, source, stopped))
    return cotangents


def find_rules(rules: str | RuleSet) -> RuleSet:
    """The rule set of that name; `auto` is `gradient`.

    Raises:
        SelectorError: There is none of that name.
    """
    if isinstance(rules, RuleSet):
        return rules
    if rules == "auto":
        return GRADIENT
    if rules not in RULE_SETS:
        raise SelectorError(
            f"no rule set {rules!r}{did_you_mean(rules, RULE_SETS)}; there are auto, {', '.join(RULE_SETS)}"
        )
    return RULE_SETS[rules]


def fresh_name(name: str, taken: Mapping[str, object]) -> str:
    """`name`, or `name_2`, `name_3` ... where it is taken."""
    number, candidate = 2, name
    while candidate in taken:
        candidate, number = f"{name}_{number}", number + 1
    return candidate


def _seed(op: Ops, graph: ir.Graph, target: ir.Value, values: dict[str, ir.Value]) -> ir.Value:
    if target.shape is not None and len(target.shape) == 0:
        assert target.dtype is not None
        return op.constant(np.ones((), target.dtype.numpy()))
    name = fresh_name(f"{target.name}_grad", values)
    seed = ir.Value(name=name, type=target.type, shape=target.shape)
    values[name] = seed
    graph.inputs.append(seed)
    return seed


def _why_stopped(
    graph: ir.Graph, target: ir.Value, source: ir.Value, stopped: Sequence[tuple[ir.Value, ir.Node]]
) -> str:
    """Name the step functions at which every path from the source ends."""
    behind = dependents(graph, [source])
    nodes = {node_name(node): node.op_type for value, node in stopped if value in behind}
    blame = ", ".join(f"{op_type} node {name!r}" for name, op_type in nodes.items())
    return (
        f"the gradient of {target.name!r} with respect to {source.name!r} is zero everywhere: "
        f"every path between them passes a step function or a shape ({blame})"
    )
