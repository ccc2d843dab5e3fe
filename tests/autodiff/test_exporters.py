"""What TensorFlow and JAX export: their own gradients, frozen by `scripts/exporters.py`."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FROZEN = sorted((ROOT / "tests" / "data" / "exporters").glob("*.npz"))

spec = importlib.util.spec_from_file_location("exporters", ROOT / "scripts" / "exporters.py")
assert spec is not None
assert spec.loader is not None
exporters = importlib.util.module_from_spec(spec)
spec.loader.exec_module(exporters)


def test_both_frameworks_are_there() -> None:
    assert {path.stem.partition("-")[0] for path in FROZEN} == set(exporters.FRAMEWORKS)


@pytest.mark.parametrize("path", FROZEN, ids=lambda path: path.stem)
def test_gradient_is_the_framework_s(path: Path) -> None:
    assert exporters.check(path) < 1e-6
