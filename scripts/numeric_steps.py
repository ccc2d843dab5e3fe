"""Print how well Grad-CAM by finite differences agrees with that by the gradient graph, for several steps.

The lowest correlation over every convolution of the model that comes along, on the sample picture.
"""

import numpy as np

from onnxviz import explain, load
from onnxviz.autodiff import numeric
from onnxviz.samples import sample_model, sample_picture

STEPS = (0.01, 0.002, 0.001, 0.0005)


def main() -> None:
    model, picture = load(sample_model()), sample_picture()
    layers = [layer.name for layer in model.layers if layer.op == "Conv"]
    exact = {name: explain(model, picture, layer=name, gradient="graph").raw for name in layers}
    for step in STEPS:
        numeric.STEP = step
        agreement = {}
        for name in layers:
            found = explain(model, picture, layer=name, gradient="numeric").raw
            agreement[name] = float(np.corrcoef(exact[name].ravel(), found.ravel())[0, 1])
        worst = min(agreement, key=lambda name: agreement[name])
        print(f"step {step}: lowest correlation {agreement[worst]:.5f}, at {worst}")


if __name__ == "__main__":
    main()
