"""Classical machine learning, in float32 whatever the case is in: its outputs are."""

import numpy as np
from autodiff.cases.table import add, add_symbolic

D = "ai.onnx.ml"


def add_ml(operator: str, what: str, call: str, inputs: str = "double[4,3] a", **more: object) -> None:
    """A case of an operator; `call` is its attributes and arguments, where x is the input a."""
    body = f"x = Cast<to=1>(a) z = {D}.{operator}{call} y = Cast<to=DOUBLE>(z)"
    (add_symbolic if "[4,3]" in inputs else add)(f"{D}::{operator}-{what}", inputs, body, **more)


add_ml(
    "ArrayFeatureExtractor", "matrix", "(x, i)", "double[4,3] a, int64[1,4] i", feeds={"i": [[2, 0, 2, 1]]}
)
add(
    f"{D}::ArrayFeatureExtractor-vector",
    "double[3] a, int64[2] i",
    f"""x = Cast<to=1>(a) w = {D}.ArrayFeatureExtractor(x, i) z = Cast<to=DOUBLE>(w)
    r = Constant<value_ints=[2]>() y = Reshape(z, r)""",
    feeds={"i": [2, 0]},
)
add_ml("ArrayFeatureExtractor", "cube", "(x, i)", "double[2,2,3] a, int64[1] i", feeds={"i": [1]})
add_ml("Scaler", "each", "<offset=[0.5, -1.0, 2.0], scale=[2.0, 0.3, -1.0]>(x)")
add_ml("Scaler", "one", "<offset=[0.5], scale=[3.0]>(x)")
for _norm in ("MAX", "L1", "L2"):
    add_ml("Normalizer", _norm.lower(), f'<norm="{_norm}">(x)')
add_ml(
    "LinearRegressor", "two", "<targets=2, coefficients=[1.0,2.0,-3.0,4.0,5.0,6.0], intercepts=[1.0,2.0]>(x)"
)
add_ml("LinearRegressor", "one", "<coefficients=[1.0,2.0,-3.0], intercepts=[0.5]>(x)")
add_ml("Imputer", "each", "<imputed_value_floats=[7.0,8.0,9.0], replaced_value_float=2.5>(x)")
_GAPS = {"a": [[1, np.nan, 3], [np.nan, 2, 4]]}
add_ml(
    "Imputer",
    "nan",
    "<imputed_value_floats=[7.0], replaced_value_float=nan>(x)",
    "double[2,3] a",
    feeds=_GAPS,
)
add_ml("FeatureVectorizer", "exact", "<inputdimensions=[3]>(x)")
add_ml("FeatureVectorizer", "cut-filled", "<inputdimensions=[2, 5, 3]>(x, x, x)")

# Steps, beside something that has a slope

_SPLIT = "nodes_truenodeids=[{}], nodes_falsenodeids=[{}], nodes_featureids=[{}]"
_TREE = _SPLIT.format(0, 1, 0) + (
    ", nodes_modes=uint8[1]{0}, nodes_splits=float[1]{0.1}, nodes_trueleafs=[1], nodes_falseleafs=[1], "
    "leaf_targetids=[0,0], leaf_weights=float[2]{5,7}, n_targets=1, aggregate_function=1, post_transform=0, "
    "tree_roots=[0]"
)
_OLD_TREE = _SPLIT.format("1,0,0", "2,0,0", "0,0,0") + (
    ', nodes_modes=["BRANCH_LEQ","LEAF","LEAF"], nodes_values=[0.1,0.0,0.0], nodes_treeids=[0,0,0], '
    "nodes_nodeids=[0,1,2]"
)


def add_step(operator: str, call: str, made: str = "s", **more: object) -> None:
    """A case of what is constant between steps; `call` is as above, on x or on i, which x is rounded to."""
    body = f"""x = Cast<to=1>(a) i = Round(x) {made} = {D}.{operator}{call} f = Cast<to=1>(s)
    r = Constant<value_ints=[4,-1]>() w = Reshape(f, r) p = Mul(x, x) q = Add(p, w) y = Cast<to=DOUBLE>(q)"""
    add(f"{D}::{operator}-step", "double[4,1] a", body, **more)


add_step("Binarizer", "<threshold=0.1>(x)")
add_step("LabelEncoder", "<keys_floats=[0.0,1.0], values_floats=[3.0,4.0]>(i)")
add_step("OneHotEncoder", "<cats_int64s=[0,1]>(i)")
add_step("TreeEnsemble", f"<{_TREE}>(x)")
_LEAVES = "{0}_treeids=[0,0], {0}_nodeids=[1,2], {0}_ids=[0,{1}], {0}_weights=[5.0,7.0]"
add_step("TreeEnsembleRegressor", f"<{_OLD_TREE}, n_targets=1, {_LEAVES.format('target', 0)}>(x)", ml=3)
_LABELS = "classlabels_int64s=[0,1,2]"
add_step("TreeEnsembleClassifier", f"<{_OLD_TREE}, {_LABELS}, {_LEAVES.format('class', 1)}>(x)", "l, s", ml=3)
