"""Export small networks from TensorFlow and JAX, and compare input gradients with those frameworks' own.

    python3 scripts/exporters.py DIR tensorflow   with tensorflow-cpu 2.21.0, keras 3.15.1, tf2onnx 1.17.0
    python3 scripts/exporters.py DIR jax          with jax 0.10.2, flax 0.12.8, jax2onnx 0.17.1
    python3 scripts/exporters.py DIR              measure again what is in DIR; needs neither

The gradient of <u, output> with respect to the input, u random, in float32 on ONNX Runtime, against the
framework's float32 autodiff. Exit code 1 unless all agree to 1e-4 of the largest value.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

TOLERANCE = 1e-4
SEED = 7
KERAS_OPSET = 18

Export = tuple[Any, tuple[int, ...], Callable[[Any, Any], Any]]
"""The ONNX model, the shape of its input, and the function of input and cotangent that is the gradient."""


def tensorflow() -> Iterator[tuple[str, Callable[[], Export]]]:
    """Networks of Keras and of TensorFlow's own operators, channels last."""
    import keras
    import tensorflow as tf
    import tf2onnx

    layers = keras.layers

    def export(function: Any, shape: tuple[int, ...], open_batch: bool) -> Export:
        signature = tf.TensorSpec((None, *shape[1:]) if open_batch else shape, tf.float32, name="x")
        proto, _ = tf2onnx.convert.from_function(
            tf.function(function), input_signature=[signature], opset=KERAS_OPSET
        )

        def pull(x: Any, u: Any) -> Any:
            with tf.GradientTape() as tape:
                leaf = tf.constant(x)
                tape.watch(leaf)
                y = function(leaf)
            return tape.gradient(y, leaf, output_gradients=tf.constant(u)).numpy()

        return proto, shape, pull

    def network(*stack: Any, shape: tuple[int, ...], open_batch: bool = False) -> Callable[[], Export]:
        def made() -> Export:
            keras.utils.set_random_seed(SEED)
            model = keras.Sequential([keras.Input(shape[1:]), *(make() for make in stack)])
            _shake(model)
            return export(lambda x: model(x, training=False), shape, open_batch)

        return made

    def operators(function: Any, shape: tuple[int, ...]) -> Callable[[], Export]:
        return lambda: export(function, shape, False)

    def loop(x: Any) -> Any:
        def step(number: Any, y: Any) -> tuple[Any, Any]:
            return number + 1, tf.sin(y) * x

        return tf.while_loop(lambda number, _: number < 3, step, (0, x))[1]

    convolutions = (
        lambda: layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
        lambda: layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2),
        layers.BatchNormalization,
        lambda: layers.Activation("silu"),
        lambda: layers.MaxPooling2D(3, strides=2, padding="same"),
        lambda: layers.SeparableConv2D(6, 3, dilation_rate=2, padding="same", activation="hard_silu"),
        lambda: layers.AveragePooling2D(2, padding="same"),
        layers.GlobalAveragePooling2D,
        lambda: layers.Dense(5, activation="softmax"),
    )
    yield "convolutions", network(*convolutions, shape=(1, 15, 17, 3))
    yield "convolutions-open", network(*convolutions, shape=(2, 15, 17, 3), open_batch=True)
    yield (
        "upsampling",
        network(
            lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="leaky_relu"),
            lambda: layers.GroupNormalization(2),
            lambda: layers.UpSampling2D(2, interpolation="bilinear"),
            lambda: layers.ZeroPadding2D((1, 2)),
            lambda: layers.Cropping2D(1),
            lambda: layers.PReLU(shared_axes=(1, 2)),
            lambda: layers.UpSampling2D(2, interpolation="nearest"),
            shape=(1, 3, 3, 3),
        ),
    )
    yield "attention", lambda: export(_keras_attention(keras), (2, 6, 8), False)
    for kind in ("LSTM", "GRU", "SimpleRNN"):
        cell = getattr(layers, kind)
        yield (
            kind.lower(),
            network(
                lambda cell=cell: layers.Bidirectional(cell(4, return_sequences=True)),
                lambda cell=cell: cell(3),
                shape=(2, 5, 3),
            ),
        )
    yield (
        "operators",
        operators(
            lambda x: tf.einsum(
                "bij,bkj->bik", tf.nn.l2_normalize(x, -1), tf.gather(tf.cumsum(x, 1), [2, 0], axis=1)
            ),
            (2, 4, 3),
        ),
    )
    yield (
        "pictures",
        operators(
            lambda x: tf.nn.lrn(
                tf.image.resize(tf.pad(x, [[0, 0], [1, 1], [2, 1], [0, 0]], "REFLECT"), (9, 7)), 2
            ),
            (1, 5, 6, 4),
        ),
    )
    yield "loop", operators(loop, (2, 3))
    yield (
        "split",
        operators(lambda x: tf.concat([tf.math.erf(part) for part in tf.split(x, 3, -1)][::-1], 0), (2, 6)),
    )


def jax() -> Iterator[tuple[str, Callable[[], Export]]]:
    """Networks of Flax and functions of JAX."""
    import jax as framework
    import jax.numpy as jnp
    from flax import nnx
    from jax2onnx import to_onnx

    def function(call: Any, shape: tuple[int, ...], sizes: tuple[Any, ...] | None = None) -> Export:
        def pull(x: Any, u: Any) -> Any:
            _, back = framework.vjp(call, jnp.asarray(x))
            return np.asarray(back(jnp.asarray(u))[0])

        return to_onnx(call, inputs=[sizes or shape]), shape, pull

    def convolutions() -> Any:
        rngs = nnx.Rngs(SEED)
        first = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        second = nnx.Conv(8, 8, (3, 3), feature_group_count=8, rngs=rngs)
        head = nnx.Linear(8, 5, rngs=rngs)

        def call(x: Any) -> Any:
            x = nnx.max_pool(nnx.silu(norm(first(x))), window_shape=(2, 2), strides=(2, 2))
            x = nnx.avg_pool(nnx.gelu(second(x)), window_shape=(2, 2))
            return nnx.log_softmax(head(x.mean((1, 2))))

        return call

    def attention() -> Any:
        rngs = nnx.Rngs(SEED)
        norms = [nnx.LayerNorm(8, rngs=rngs), nnx.RMSNorm(8, rngs=rngs)]
        attend = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        wide, narrow = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)

        def call(x: Any) -> Any:
            x = x + attend(norms[0](x))
            return x + narrow(nnx.gelu(wide(norms[1](x))))

        return call

    def scan(x: Any) -> Any:
        def step(carry: Any, row: Any) -> tuple[Any, Any]:
            carry = jnp.tanh(carry + row)
            return carry, carry * row

        last, rows = framework.lax.scan(step, jnp.zeros(x.shape[1]), x)
        return rows + last

    def loop(x: Any) -> Any:
        def step(_: Any, pair: tuple[Any, Any]) -> tuple[Any, Any]:
            return jnp.sin(pair[0]) * pair[1], pair[1]

        # jax2onnx takes no loop that captures what is traced.
        return framework.lax.fori_loop(0, 3, step, (x, x))[0]

    yield "convolutions", lambda: function(convolutions(), (1, 12, 14, 3))
    yield "convolutions-open", lambda: function(convolutions(), (2, 12, 14, 3), ("B", 12, 14, 3))
    yield "attention", lambda: function(attention(), (2, 6, 8))
    yield "scan", lambda: function(scan, (4, 3))
    yield "loop", lambda: function(loop, (2, 3))
    yield (
        "branch",
        lambda: function(lambda x: framework.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x), (2, 3)),
    )
    yield (
        "operators",
        lambda: function(
            lambda x: jnp.einsum(
                "bij,bkj->bik", jnp.cumsum(x, axis=1), jnp.take(x, jnp.array([2, 0]), axis=1)
            ),
            (2, 4, 3),
        ),
    )
    yield "sorted", lambda: function(lambda x: jnp.sort(x, -1) * jnp.arange(1.0, 5.0), (3, 4))
    yield "logsumexp", lambda: function(lambda x: framework.nn.logsumexp(x, -1) + x.prod(-1), (3, 4))


FRAMEWORKS = {"tensorflow": tensorflow, "jax": jax}


def make(folder: Path, framework: str) -> Iterator[str]:
    """Export every network of a framework into a file each; yield what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in FRAMEWORKS[framework]():
        try:
            proto, shape, pull = build()
            rng = np.random.default_rng(SEED)
            x = rng.standard_normal(shape).astype(np.float32)
            u = rng.standard_normal(_run(proto, x).shape).astype(np.float32)
            model = np.frombuffer(proto.SerializeToString(), np.uint8)
            path = folder / f"{framework}-{name}.npz"
            np.savez_compressed(path, model=model, x=x, u=u, slope=pull(x, u))
        except Exception as err:
            yield f"{framework}-{name}: export failed: {type(err).__name__}: {str(err)[:200]}"


def check(path: Path) -> float:
    """The error of an exported network's gradient."""
    from onnxviz.autodiff.pullback import gradient
    from onnxviz.graph.model import load
    from onnxviz.runtime.session import Session

    known = np.load(path)
    model = load(onnx.ModelProto.FromString(known["model"].tobytes()))
    of, wrt = model.outputs[0].name, model.inputs[0].name
    slopes = gradient(model, of, wrt)
    feeds = {wrt: known["x"]} | ({slopes.cotangent: known["u"]} if slopes.cotangent else {})
    found = Session(slopes, "cpu").run(feeds)[slopes.gradients[wrt]]
    return float(np.abs(found - known["slope"]).max() / np.abs(known["slope"]).max())


def _run(proto: Any, x: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _shake(model: Any) -> None:
    """Random numbers for what Keras leaves at zeros and ones."""
    rng = np.random.default_rng(SEED)
    for weight in model.weights:
        value = np.asarray(weight)
        if value.size and value.min() == value.max():
            weight.assign(value + rng.uniform(0.05, 0.3, value.shape).astype(value.dtype))


def _keras_attention(keras: Any) -> Any:
    layers = keras.layers
    keras.utils.set_random_seed(SEED)
    entry = keras.Input((6, 8), batch_size=2)
    x = layers.LayerNormalization()(entry)
    x = entry + layers.MultiHeadAttention(2, 4)(x, x)
    # tf2onnx writes the exact GELU with an operator Erfc that ONNX does not have.
    y = layers.Dense(16, activation=lambda x: keras.activations.gelu(x, approximate=True))(
        layers.LayerNormalization()(x)
    )
    model = keras.Model(entry, x + layers.Dense(8)(y))
    _shake(model)
    return lambda x: model(x, training=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("framework", nargs="?", choices=list(FRAMEWORKS))
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.framework:
        for complaint in make(arguments.folder, arguments.framework):
            print(complaint)
    failures = 0
    for path in sorted(arguments.folder.glob("*.npz")):
        try:
            error = check(path)
        except Exception as err:
            failures += 1
            print(f"{path.stem}: {type(err).__name__}: {str(err)[:300]}")
            continue
        failures += not error <= TOLERANCE
        print(f"{path.stem}: {error:.1e}{'' if error <= TOLERANCE else '  FAIL'}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
