"""The reviewed list of operators whose outputs are piecewise constant in every input: derivative zero.

A gradient whose every path ends at one of these is an error that names the node.
"""

from onnxviz.autodiff.ruleset import constant_everywhere

constant_everywhere("Floor", "Ceil", "Round", "Sign", "IsInf", "IsNaN")
constant_everywhere("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
constant_everywhere("And", "Or", "Xor", "Not")
constant_everywhere("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
constant_everywhere("ArgMax", "ArgMin", "Hardmax", "NonZero", "NonMaxSuppression", "TfIdfVectorizer")
constant_everywhere("Shape", "Size", "ConstantOfShape", "EyeLike")
constant_everywhere("SequenceEmpty", "SequenceLength", "OptionalHasElement")
constant_everywhere("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix")
constant_everywhere("RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")
constant_everywhere("ai.onnx.ml::Binarizer", "ai.onnx.ml::LabelEncoder", "ai.onnx.ml::OneHotEncoder")
constant_everywhere("ai.onnx.ml::TreeEnsemble")
constant_everywhere("ai.onnx.ml::TreeEnsembleClassifier", "ai.onnx.ml::TreeEnsembleRegressor")
