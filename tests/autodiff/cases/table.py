"""The case table: each operator that has a rule, its attributes crossed with the branches of the rule.

A key is "Operator-what". The inputs and the body are ONNX text whose floats are written `double`, so that
the same case is built in other float types; every float input is differentiated, and `y` is the output.
Inputs are standard normal numbers, positive ones where the name begins with `p`, and off the kinks; other
types are fed from `feeds`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import onnx
import onnx.parser
import onnxruntime


@dataclass(frozen=True)
class Case:
    inputs: str
    body: str
    feeds: Mapping[str, object] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    since: int = 18
    until: int = 99  # the first opset that no longer knows this form
    runs: int = 18  # the first opset of which ONNX Runtime runs the gradient
    shape: str = ""  # of y, where ONNX does not infer it
    ml: int = 5  # the version of ai.onnx.ml
    forward: int = 99  # the first opset of which ONNX Runtime does not run the operator itself


NEVER = 99  # ONNX Runtime has no kernel, or one that leaves the standard

# The checker wants an output's rank, which some operators hide.
FLATTENED = "r = Constant<value_ints=[-1]>() y = Reshape(z, r)"

CASES: dict[str, Case] = {}

NUMPY_TYPES = {"double": np.float64, "float": np.float32, "float16": np.float16}


def model_of(case: Case, dtype: str = "double", opset: int = 18) -> onnx.ModelProto:
    """The case as a model, its floats of another type if asked for."""
    text = f"m ({case.inputs}) => (double[{case.shape}] y) {{ {case.body} }}"
    code = {"double": 11, "float": 1, "float16": 10}[dtype]
    text = re.sub(r"\bdouble\b", dtype, text).replace("DOUBLE", str(code))
    versions = {"com.microsoft": 1, "ai.onnx.ml": case.ml, "ai.onnx.preview.training": 1}
    used = {"": opset, **{domain: version for domain, version in versions.items() if f"{domain}." in text}}
    imports = ", ".join(f'"{domain}": {version}' for domain, version in used.items())
    return onnx.parser.parse_model(f"<ir_version: 10, opset_import: [{imports}]> {text}")


def feeds_of(case: Case, dtype: str = "double", seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for a case's inputs, the same numbers in every float type."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for kind, dims, name in re.findall(r"(\w+)(?:\[([^\]]*)\])? (\w+)", case.inputs):
        if name in case.feeds:
            kind = {"double": dtype, "bool": "bool_"}.get(kind, kind)
            feeds[name] = np.asarray(case.feeds[name], NUMPY_TYPES.get(kind) or getattr(np, kind))
            continue
        shape = [case.sizes[dim] if dim in case.sizes else int(dim) for dim in dims.split(",") if dim]
        numbers = rng.uniform(0.5, 2, shape) if name.startswith("p") else rng.standard_normal(shape)
        feeds[name] = np.asarray(numbers, NUMPY_TYPES[dtype])
    return feeds


def floats_of(case: Case) -> list[str]:
    """The inputs to differentiate."""
    return re.findall(r"double(?:\[[^\]]*\])? (\w+)", case.inputs)


@cache
def newest_opset() -> int:
    """The newest operator set that the installed ONNX Runtime loads."""
    for opset in range(onnx.defs.onnx_opset_version(), 18, -1):
        model = model_of(Case("double[1] a", "y = Identity(a)"), "float", opset)
        try:
            onnxruntime.InferenceSession(model.SerializeToString())
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            continue
        return opset
    return 18


def add(key: str, inputs: str, body: str, **more: object) -> None:
    assert key not in CASES, key
    CASES[key] = Case(inputs, body, **more)  # type: ignore[arg-type]


def add_symbolic(key: str, inputs: str, body: str, **more: object) -> None:
    """The case as it is, and with a first input whose batch and spatial sizes are only known when it runs."""
    add(key, inputs, body, **more)
    first, *rest = re.split(r"(?<=\w), (?=double|int64|bool)", inputs)
    kind, dims, name = re.fullmatch(r"(\w+)\[([^\]]*)\] (\w+)", first).groups()  # type: ignore[union-attr]
    shape = [int(dim) for dim in dims.split(",")]
    symbols = ["N", "C", "D", "H", "W"] if len(shape) == 5 else ["N", "C", "H", "W"][: len(shape)]
    symbols[1] = str(shape[1])
    sizes = {symbol: size for symbol, size in zip(symbols, shape, strict=True) if not symbol.isdigit()}
    CASES[f"{key}-symbolic"] = replace(
        CASES[key], inputs=", ".join([f"{kind}[{','.join(symbols)}] {name}", *rest]), sizes=sizes
    )


def cases(operator: str) -> Iterator[str]:
    """The keys of one operator's cases."""
    return (key for key in CASES if key.split("-")[0] == operator)
