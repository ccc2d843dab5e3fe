"""Reductions."""

from autodiff.cases.table import FLATTENED, add

# Reductions

for _operator in (
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
):
    _p = "p" if _operator == "ReduceLogSum" else "a"
    add(
        f"{_operator}-defaults",
        f"double[2,3,4] {_p}",
        f"x = Constant<value_ints=[1]>() y = {_operator}({_p}, x)",
    )
    for _keep in (0, 1):
        for _what, _axes in (
            ("last", "-1"),
            ("first", "0"),
            ("two", "0,2"),
            ("negative", "-2,0"),
            ("all", "0,1,2"),
        ):
            add(
                f"{_operator}-keep{_keep}-{_what}",
                f"double[2,3,4] {_p}",
                f"x = Constant<value_ints=[{_axes}]>() y = {_operator}<keepdims={_keep}>({_p}, x)",
            )
        add(
            f"{_operator}-keep{_keep}-absent",
            f"double[2,3,4] {_p}",
            f"y = {_operator}<keepdims={_keep}>({_p})",
        )
        add(
            f"{_operator}-keep{_keep}-absent-noop",
            f"double[2,3,4] {_p}",
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>({_p})",
        )
        add(
            f"{_operator}-keep{_keep}-empty-noop",
            f"double[2,3,4] {_p}",
            "x = Constant<value=int64[0]{}>() "
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>({_p}, x)",
        )
        add(
            f"{_operator}-keep{_keep}-empty",
            f"double[2,3,4] {_p}",
            f"x = Constant<value=int64[0]{{}}>() y = {_operator}<keepdims={_keep}>({_p}, x)",
        )
        add(
            f"{_operator}-keep{_keep}-noop-with-axes",
            f"double[2,3,4] {_p}",
            "x = Constant<value_ints=[1]>() "
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>({_p}, x)",
        )
        add(
            f"{_operator}-keep{_keep}-computed",
            f"double[2,3,4] {_p}, int64[2] x",
            f"z = {_operator}<keepdims={_keep}>({_p}, x) {FLATTENED}",
            feeds={"x": [0, -1]},
        )
        add(
            f"{_operator}-keep{_keep}-computed-empty-noop",
            f"double[2,3,4] {_p}, int64[0] x",
            f"z = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>({_p}, x) {FLATTENED}",
            feeds={"x": []},
        )
        add(
            f"{_operator}-keep{_keep}-symbolic",
            f"double[N,3,L] {_p}",
            f"x = Constant<value_ints=[0,2]>() y = {_operator}<keepdims={_keep}>({_p}, x)",
            sizes={"N": 2, "L": 4},
        )

# Products with a zero, or with several, and none among them

_zeros = [[0, 2, -3], [0, 0, 4], [0.5, -2, 3]]
for _what, _axes, _x in (("last", "1", _zeros), ("first", "0", _zeros), ("all", "0,1", [[2, -3], [0, 0.5]])):
    add(
        f"ReduceProd-zeros-{_what}",
        f"double[{len(_x)},{len(_x)}] a",
        f"x = Constant<value_ints=[{_axes}]>() y = ReduceProd(a, x)",
        feeds={"a": _x},
    )

# Running sums and products, the latter with zeros too

for _operator, _more in (("CumSum", {}), ("CumProd", {"since": 26})):
    for _axis in (0, 1, -1):
        for _exclusive in (0, 1):
            for _reverse in (0, 1):
                add(
                    f"{_operator}-axis{_axis}-exclusive{_exclusive}-reverse{_reverse}",
                    "double[2,3,4] a",
                    f"x = Constant<value=int64{{{_axis}}}>() "
                    f"y = {_operator}<exclusive={_exclusive}, reverse={_reverse}>(a, x)",
                    **_more,
                )
    add(
        f"{_operator}-computed-axis",
        "double[N,3] a, int32 x",
        f"y = {_operator}(a, x)",
        feeds={"x": -2},
        sizes={"N": 4},
        **_more,
    )
for _exclusive in (0, 1):
    for _reverse in (0, 1):
        add(
            f"CumProd-zeros-exclusive{_exclusive}-reverse{_reverse}",
            "double[3,3] a",
            f"x = Constant<value=int64{{1}}>() y = CumProd<exclusive={_exclusive}, reverse={_reverse}>(a, x)",
            feeds={"a": _zeros},
            since=26,
        )
