import numpy as np

from onnxviz.methods.arrays import GrowingArrays


def test_rows_become_arrays_of_the_first_row_s_type(tmp_path):
    (tmp_path / "scratch").mkdir()
    arrays = GrowingArrays(tmp_path / "scratch")
    rows = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    for number, row in enumerate(rows):
        arrays.add("maps", row)
        arrays.add("count", number / 2)
    arrays.write(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert set(found) == {"maps", "count"}
        np.testing.assert_array_equal(found["maps"], rows)
        assert found["maps"].dtype == np.float32
        np.testing.assert_array_equal(found["count"], np.arange(5) / 2)


def test_rows_of_different_shapes_are_kept_apart(tmp_path):
    (tmp_path / "scratch").mkdir()
    arrays = GrowingArrays(tmp_path / "scratch")
    rows = [np.full((2, number), number, np.int16) for number in (1, 3, 0)]
    for row in rows:
        arrays.add("a/raw", row)
    arrays.write(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert set(found) == {"a/raw_0", "a/raw_1", "a/raw_2"}
        for number, row in enumerate(rows):
            np.testing.assert_array_equal(found[f"a/raw_{number}"], row)
