import importlib
import inspect

import pytest

import onnxviz

NAMES = [
    "ZERO",
    "Explanation",
    "Layer",
    "Maximized",
    "Model",
    "OnnxvizError",
    "Ops",
    "Preprocess",
    "Projections",
    "RuleSet",
    "Session",
    "Target",
    "TopImages",
    "activations",
    "audit",
    "deconv",
    "explain",
    "explainer",
    "expose",
    "gradient",
    "kernels",
    "load",
    "maximize",
    "top_images",
    "vjp",
]
SHARED = {"preprocess": None, "device": "auto", "batch": None, "inputs": None}
REQUIRED = inspect.Parameter.empty

# The parameters in their order, and the defaults.
POSITIONAL = {
    "load": {"model": REQUIRED},
    "expose": {"model": REQUIRED, "tensors": REQUIRED},
    "gradient": {"model": REQUIRED, "of": REQUIRED, "wrt": REQUIRED, "rules": "auto", "keep": ()},
    "activations": {"model": REQUIRED, "images": REQUIRED, "layers": "Conv"},
    "deconv": {
        "model": REQUIRED,
        "image": REQUIRED,
        "layer": None,
        "channels": "strongest:9",
        "rules": "deconvnet",
    },
    "explain": {
        "model": REQUIRED,
        "images": REQUIRED,
        "method": "grad-cam",
        "target": None,
        "layer": None,
        "gradient": "auto",
        "seed": 0,
    },
    "explainer": {"model": REQUIRED, "method": "grad-cam", "layer": None, "fold_preprocess": False},
    "kernels": {"model": REQUIRED, "layers": "Conv"},
    "audit": {"model": REQUIRED, "images": None, "reference": None},
    "maximize": {
        "model": REQUIRED,
        "layer": None,
        "channels": None,
        "target": None,
        "recipe": "lucid",
        "seed": 0,
    },
}
ATTRIBUTES = {
    "Explanation": [
        "heatmap", "raw", "target", "score", "probability", "layer", "method", "manifest", "save",
    ],
    "Layer": [
        "index", "name", "tensor", "op", "module", "shape", "params", "macs", "receptive_field",
    ],
    "Maximized": ["images", "losses", "channels", "woke", "save"],
    "Model": ["inputs", "outputs", "layers", "metadata", "opset", "gradients", "cotangent", "proto", "save"],
    "Session": ["run"],
    "Preprocess": ["size", "resize", "filter", "color", "scale", "mean", "std", "to_dict"],
    "Projections": ["pixels", "patches", "boxes", "channels", "manifest", "save"],
    "RuleSet": ["name", "find", "override", "when"],
    "Target": ["text", "terms"],
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert onnxviz.__all__ == NAMES
    assert sorted(NAMES) == sorted(onnxviz._HOMES)
    # Constants, then classes, then functions, each in alphabetical order.
    rank = {name: (not name.isupper(), name[0].islower(), name) for name in NAMES}
    assert sorted(NAMES, key=rank.__getitem__) == NAMES


def test_dir_lists_the_public_names_and_modules() -> None:
    assert dir(onnxviz) == sorted([*NAMES, "__version__", "errors", "testing"])


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(onnxviz, name)
    assert value is getattr(onnxviz, name)
    home = importlib.import_module(f"onnxviz.{onnxviz._HOMES[name]}")
    assert value is getattr(home, name)
    if name != "ZERO":
        assert value.__doc__
        assert not value.__doc__.startswith(f"{name}(")  # what a dataclass says when nobody wrote one


def test_the_modules_are_there_too() -> None:
    assert onnxviz.errors.OnnxvizError is onnxviz.OnnxvizError
    assert onnxviz.testing.check_gradient.__doc__
    parameters = list(inspect.signature(onnxviz.testing.check_gradient).parameters)
    assert parameters[:3] == ["model", "of", "wrt"]


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'onnxviz' has no attribute 'explian'"):
        onnxviz.explian  # noqa: B018
    assert not hasattr(onnxviz, "__wrapped__")


@pytest.mark.parametrize("name", POSITIONAL)
def test_the_parameters_of_a_function(name: str) -> None:
    parameters = inspect.signature(getattr(onnxviz, name)).parameters.values()
    positional = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert list(positional.items()) == list(POSITIONAL[name].items())
    # A method and a recipe have settings of their own, and refuse what is none.
    several = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert several == (["settings"] if name in ("explain", "maximize") else [])


@pytest.mark.parametrize("name", ["activations", "audit", "deconv", "explain"])
def test_functions_that_take_pictures_share_their_keywords(name: str) -> None:
    parameters = inspect.signature(getattr(onnxviz, name)).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert {key: keywords[key] for key in SHARED} == SHARED


def test_the_parameters_of_a_session() -> None:
    made = inspect.signature(onnxviz.Session).parameters
    assert [(p.name, p.default) for p in made.values()] == [("model", REQUIRED), ("device", "auto")]
    run = list(inspect.signature(onnxviz.Session.run).parameters.values())
    assert [p.name for p in run][:3] == ["self", "feeds", "outputs"]
    assert run[2].default is None
    assert all(p.kind is p.KEYWORD_ONLY for p in run[3:])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_the_attributes_of_a_class(name: str) -> None:
    kind = getattr(onnxviz, name)
    fields = {*getattr(kind, "__dataclass_fields__", ()), *dir(kind)}
    assert {*ATTRIBUTES[name]} <= fields


@pytest.mark.parametrize("name", [name for name in NAMES if name[0].islower()])
def test_every_parameter_is_annotated(name: str) -> None:
    signature = inspect.signature(getattr(onnxviz, name))
    assert signature.return_annotation is not REQUIRED
    for parameter in signature.parameters.values():
        assert parameter.annotation is not REQUIRED


@pytest.mark.parametrize(
    "name", [name for name in dir(onnxviz.errors) if isinstance(getattr(onnxviz.errors, name), type)]
)
def test_every_error_is_one_of_ours_and_in_the_tree(name: str) -> None:
    if getattr(onnxviz.errors, name).__module__ == "onnxviz.errors":
        assert issubclass(getattr(onnxviz.errors, name), onnxviz.OnnxvizError)
        assert name in str(onnxviz.errors.__doc__)
