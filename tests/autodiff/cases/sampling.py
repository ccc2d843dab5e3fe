"""Operators that sample pictures at computed places."""

import numpy as np
from autodiff.cases.table import NEVER, add

# Places within the picture, on its rim, and far outside it; none on a kink.
_GRID = np.random.default_rng(5).uniform(-1.9, 1.9, (2, 3, 4, 2)) + 0.01
_GRID_3D = np.random.default_rng(6).uniform(-1.6, 1.6, (1, 2, 2, 3, 3)) + 0.01

for _padding in ("zeros", "border", "reflection"):
    for _aligned in (0, 1):
        for _mode, _old in (("linear", "bilinear"), ("nearest", "nearest"), ("cubic", "bicubic")):
            _attributes = f'padding_mode="{_padding}", align_corners={_aligned}'
            _grid = "float[2,3,4,2] g" if _mode == "nearest" else "double[2,3,4,2] g"
            _body = "h = Cast<to=DOUBLE>(g) " if _mode == "nearest" else "h = Identity(g) "
            for _name, _since, _until in ((_old, 18, 20), (_mode, 20, NEVER)):
                add(
                    f"GridSample-{_name}-{_padding}-{_aligned}" + ("-old" if _until == 20 else ""),
                    f"double[2,2,5,4] a, {_grid}",
                    f'{_body}y = GridSample<mode="{_name}", {_attributes}>(a, h)',
                    feeds={"g": _GRID},
                    since=_since,
                    until=_until,
                )
            _grid = "float[1,2,2,3,3] g" if _mode == "nearest" else "double[1,2,2,3,3] g"
            add(
                f"GridSample-3d-{_mode}-{_padding}-{_aligned}",
                f"double[1,2,3,4,3] a, {_grid}",
                f'{_body}y = GridSample<mode="{_mode}", {_attributes}>(a, h)',
                feeds={"g": _GRID_3D},
                since=20,
            )
