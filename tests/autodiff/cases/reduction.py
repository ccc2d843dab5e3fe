"""Reductions."""

from autodiff.cases.table import FLATTENED, add

# Reductions

for _operator in ("ReduceSum", "ReduceMean"):
    add(f"{_operator}-defaults", "double[2,3,4] a", f"x = Constant<value_ints=[1]>() y = {_operator}(a, x)")
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
                "double[2,3,4] a",
                f"x = Constant<value_ints=[{_axes}]>() y = {_operator}<keepdims={_keep}>(a, x)",
            )
        add(f"{_operator}-keep{_keep}-absent", "double[2,3,4] a", f"y = {_operator}<keepdims={_keep}>(a)")
        add(
            f"{_operator}-keep{_keep}-absent-noop",
            "double[2,3,4] a",
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a)",
        )
        add(
            f"{_operator}-keep{_keep}-empty-noop",
            "double[2,3,4] a",
            "x = Constant<value=int64[0]{}>() "
            f"y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-empty",
            "double[2,3,4] a",
            f"x = Constant<value=int64[0]{{}}>() y = {_operator}<keepdims={_keep}>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-noop-with-axes",
            "double[2,3,4] a",
            f"x = Constant<value_ints=[1]>() y = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x)",
        )
        add(
            f"{_operator}-keep{_keep}-computed",
            "double[2,3,4] a, int64[2] x",
            f"z = {_operator}<keepdims={_keep}>(a, x) {FLATTENED}",
            feeds={"x": [0, -1]},
        )
        add(
            f"{_operator}-keep{_keep}-computed-empty-noop",
            "double[2,3,4] a, int64[0] x",
            f"z = {_operator}<keepdims={_keep}, noop_with_empty_axes=1>(a, x) {FLATTENED}",
            feeds={"x": []},
        )
        add(
            f"{_operator}-keep{_keep}-symbolic",
            "double[N,3,L] a",
            f"x = Constant<value_ints=[0,2]>() y = {_operator}<keepdims={_keep}>(a, x)",
            sizes={"N": 2, "L": 4},
        )
