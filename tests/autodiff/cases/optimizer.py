"""The standard's optimizers, which ONNX Runtime has no kernels for; `y` holds all that a step makes."""

from autodiff.cases.table import NEVER, add

D = "ai.onnx.preview.training"
KINDS = {"Adagrad": "xgp", "Adam": "xgvp", "Momentum": "xgv"}


def add_step(operator: str, what: str, attributes: str, steps: int = 3, rate: str = "double pr") -> None:
    """A case with one tensor, or two where the name says so; rates and sums of squares are positive."""
    numbers = (1, 2) if what == "two" else (1,)
    names = [f"{kind}{number}" for kind in KINDS[operator] for number in numbers]
    made = [name.replace(name[0], f"new_{name[0]}") for name in names if name[0] != "g"]
    tensors = ", ".join(f"double[{name[-1]},3] {name}" for name in names)
    add(
        f"{D}::{operator}-{what}",
        f"{rate}, int64 t, {tensors}",
        f"{', '.join(made)} = {D}.{operator}<{attributes}>(pr, t, {', '.join(names)}) "
        f"y = Concat<axis=0>({', '.join(made)})",
        feeds={"t": steps},
        runs=NEVER,
    )


for _steps in (0, 3):
    add_step("Adagrad", f"step-{_steps}", "decay_factor=0.1, norm_coefficient=0.2, epsilon=0.03", _steps)
    add_step("Adam", f"step-{_steps}", "alpha=0.7, beta=0.6, norm_coefficient=0.2, epsilon=0.03", _steps)
    for _mode in ("standard", "nesterov"):
        _attributes = f'alpha=0.7, beta=0.4, norm_coefficient=0.2, mode="{_mode}"'
        add_step("Momentum", f"{_mode}-step-{_steps}", _attributes, _steps)
add_step("Adagrad", "two", "epsilon=0.01")
add_step("Adam", "two", "norm_coefficient_post=0.3", rate="double[1] pr")
add_step("Momentum", "two", 'alpha=0.7, beta=0.4, norm_coefficient=0.0, mode="standard"')
