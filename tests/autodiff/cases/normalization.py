"""Normalisation layers."""

from autodiff.cases.table import NEVER, add, add_symbolic

# Normalisation

for _rank, _x in ((2, "[4,3]"), (3, "[2,3,5]"), (4, "[2,3,4,2]")):
    add_symbolic(
        f"BatchNormalization-rank{_rank}",
        f"double{_x} a, double[3] s, double[3] b, double[3] m, double[3] p",
        "y = BatchNormalization(a, s, b, m, p)",
    )
add(
    "BatchNormalization-epsilon",
    "double[2,3,4] a, double[3] s, double[3] b, double[3] m, double[3] p",
    "y = BatchNormalization<epsilon=0.5, momentum=0.3>(a, s, b, m, p)",
)
for _size in (1, 2, 3, 4, 5):
    add_symbolic(
        f"LRN-{_size}",
        "double[2,6,3,2] a",
        f"y = LRN<size={_size}, alpha=0.7, beta=0.6, bias=1.5>(a)",
        runs=18 if _size % 2 else NEVER,
    )
add("LRN-defaults", "double[2,4,2,3] a", "b = Mul(a, a) c = Exp(b) y = LRN<size=3>(c)")
