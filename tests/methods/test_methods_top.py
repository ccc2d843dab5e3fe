"""top: the reduction against brute force, however it is divided, cut off or failed by a picture."""

import os
from functools import reduce
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from methods.nets import net, run_plainly
from PIL import Image

import onnxviz
from onnxviz.errors import ImageError, OutputError, SelectorError, ShapeError
from onnxviz.methods.top.histogram import BINS, LEVELS, MIDDLES, ZERO, bars, count, empty_counts, quantiles
from onnxviz.methods.top.images import top_images
from onnxviz.methods.top.job import Job
from onnxviz.methods.top.ledger import Ledger
from onnxviz.methods.top.summary import empty, merge, pack, unpack
from onnxviz.methods.top.watcher import Watcher, watch
from onnxviz.vision.images import picture_input, prepare
from onnxviz.vision.preprocess import PRESETS

TEXT = """
    (float[{batch},3,12,14] x) => (float[{batch},4] logits) {{
        c = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w1, b1)
        r = Relu (c)
        pooled = GlobalAveragePool (r)
        flat = Flatten (pooled)
        logits = Gemm <transB = 1> (flat, w2)
    }}
"""
COUNT = 37
OPTIONS = {"preprocess": "unit", "device": "cpu"}


def small_net(batch="N"):
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.6, (5, 3, 3, 3)).astype(np.float32),
        "b1": np.array([0.1, -0.3, 0, -50, 0.2], np.float32),
        "w2": rng.normal(0, 1, (4, 5)).astype(np.float32),
    }
    return net(TEXT.format(batch=batch), weights)


@pytest.fixture(name="folder")
def _folder(tmp_path, monkeypatch):
    """Pictures, two of them equal; one that is none."""
    monkeypatch.chdir(tmp_path)
    Path("set/sub").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (12, 14, 3), np.uint8)
        if number == 20:
            with Image.open("set/003.png") as opened:
                pixels = np.asarray(opened)
        Image.fromarray(pixels).save(f"set/{'sub/' if number > 30 else ''}{number:03d}.png")
    Path("set/010.png").write_bytes(b"no picture")
    return Path("set")


def brute(folder, model):
    """Every map of every picture that can be read, by plain onnxruntime, and the pictures' numbers."""
    files = sorted((path for path in folder.rglob("*.png")), key=lambda path: path.as_posix())
    where = picture_input(onnxviz.load(model).inputs)
    maps, numbers = [], []
    for number, path in enumerate(files):
        try:
            array = prepare([path], where, PRESETS["unit"]).array
        except ImageError:
            continue
        maps.append(run_plainly(model, {"x": array}, ["r"])["r"][0])
        numbers.append(number)
    return files, np.stack(maps), np.array(numbers)


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_the_answer_is_that_of_brute_force(folder, batch):
    model = small_net(batch)
    files, maps, numbers = brute(folder, small_net())
    found = top_images(model, folder, "r", "all", 4, **OPTIONS)
    flat = maps.reshape(len(maps), 5, -1)
    for channel in range(5):
        peaks = flat[:, channel].max(axis=1)
        order = sorted(range(len(peaks)), key=lambda row: (-peaks[row], numbers[row]))[:4]
        assert found.numbers[channel].tolist() == numbers[order].tolist()
        np.testing.assert_allclose(found.values[channel], peaks[order], rtol=1e-6)
        assert [Path(path) for path in found.paths[channel]] == [files[n] for n in numbers[order]]
        cells = flat[order, channel].argmax(axis=1)
        assert found.positions[channel].tolist() == np.stack(np.divmod(cells, 7), axis=1).tolist()


def test_the_statistics_are_those_of_all_places(folder):
    _, maps, _ = brute(folder, small_net())
    spread = top_images(small_net(), folder, "r", "0", **OPTIONS).statistics
    flat = maps.transpose(1, 0, 2, 3).reshape(5, -1).astype(np.float64)
    assert spread.pictures == COUNT - 1
    assert spread.places == flat.shape[1]
    np.testing.assert_allclose(spread.mean, flat.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(spread.least, flat.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(spread.greatest, flat.max(axis=1), rtol=1e-6)
    np.testing.assert_allclose(spread.zeros, (flat == 0).mean(axis=1))
    np.testing.assert_allclose(spread.dead, (maps.max(axis=(2, 3)) <= 0).mean(axis=0))
    exact = np.quantile(flat, LEVELS, axis=1, method="inverted_cdf").T
    np.testing.assert_allclose(spread.quantiles, exact, rtol=1 / 32, atol=1e-9)
    assert spread.dead[3] == 1  # its bias keeps it asleep
    assert spread.quantiles[3].tolist() == [0] * 7


def test_boxes_are_what_a_unit_sees(folder):
    found = top_images(small_net(), folder, "r", "1", 3, **OPTIONS)
    for (row, column), box in zip(found.positions[0], found.boxes[0], strict=True):
        assert box.tolist() == [2 * column - 1, 2 * row - 1, 2 * column + 2, 2 * row + 2]


def test_equal_pictures_are_ordered_by_number(folder):
    found = top_images(small_net(), [folder / "020.png", folder / "003.png"], "r", "0", 2, **OPTIONS)
    assert found.numbers[0].tolist() == [0, 1]
    assert found.values[0, 0] == found.values[0, 1]


def test_a_dead_channel_has_zeros_and_no_more_pictures_than_there_are(folder):
    found = top_images(small_net(), [folder / "000.png"], "r", "3", 5, **OPTIONS)
    assert found.numbers[0].tolist() == [0, -1, -1, -1, -1]
    assert found.values[0].tolist() == [0, *[-np.inf] * 4]
    assert found.paths[0][1:] == ("",) * 4


def test_what_cannot_be_read_is_passed_over_and_said(folder):
    said = []
    found = top_images(small_net(), folder, "r", "0", **OPTIONS, notify=said.append)
    assert len(said) == 1
    assert "010.png" in said[0]
    failed = found.manifest["pictures"]["failed"]
    assert [one["number"] for one in failed] == [10]
    assert found.manifest["pictures"]["count"] == COUNT - 1
    assert "1 of 37 pictures" in found.manifest["warnings"][-1]
    with pytest.raises(ImageError, match="not one"):
        top_images(small_net(), folder / "010.png", "r", "0", **OPTIONS)


def job(folder, **given):
    asked = {
        "model": onnxviz.load(small_net()).serialize(),
        "images": tuple(sorted(folder.rglob("*.png"), key=lambda path: path.as_posix())),
        "layer": "r",
        "k": 3,
        "preprocess": "unit",
        "inputs": {},
        "size": None,
        "device": "cpu",
        "batch": 4,
    }
    return Job(**asked | given)


def summaries(watcher, edges):
    from onnxviz.methods.engines import local

    return [summary for _, summary in local(watcher, [range(*pair) for pair in edges])]


def same(one, other):
    return pack(one) == pack(other)


def test_however_the_pictures_are_divided_the_answer_is_the_same_to_the_last_bit(folder):
    watcher = watch(job(folder))
    (whole,) = summaries(watcher, [(0, COUNT)])
    for cuts in ([0, 5, 9, 30, COUNT], [0, 1, 2, COUNT], list(range(COUNT + 1))):
        parts = summaries(watcher, list(pairwise(cuts)))
        start = empty(5, 3)
        assert same(reduce(merge, parts, start), whole)
        rng = np.random.default_rng(len(cuts))
        mixed = [parts[i] for i in rng.permutation(len(parts))]
        assert same(reduce(merge, mixed, start), whole)
        assert same(merge(mixed[0], reduce(merge, mixed[1:], start)), whole)


def test_a_summary_survives_its_bytes(folder):
    (whole,) = summaries(watch(job(folder)), [(0, COUNT)])
    assert same(unpack(pack(whole)), whole)
    with pytest.raises((ValueError, KeyError, OSError)):
        unpack(b"no summary")


def stop_after(monkeypatch, chunks):
    """Let a search be interrupted after so many chunks, everything done being written at once."""
    enter = Ledger.enter
    seen = []

    def stopping(self, chunk, summary):
        enter(self, chunk, summary)
        self.write()
        seen.append(chunk)
        if len(seen) == chunks:
            raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "enter", stopping)


def test_a_search_that_was_cut_off_goes_on(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("onnxviz.methods.top.job.CHUNK", 8)
    kept = tmp_path / "kept.npz"
    whole = top_images(small_net(), folder, "r", "all", **OPTIONS)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            top_images(small_net(), folder, "r", "all", **OPTIONS, progress=kept)
    read = []
    maps = Watcher._maps

    def counting(self, array):
        read.append(len(array))
        return maps(self, array)

    monkeypatch.setattr(Watcher, "_maps", counting)
    said = []
    again = top_images(small_net(), folder, "r", "all", **OPTIONS, progress=kept, notify=said.append)
    assert sum(read) == COUNT - 16  # one of the first sixteen cannot be read, and is not read again
    assert "going on after 16 of 37" in said[0]
    assert again.manifest["resumed_after"] == 16
    assert (again.numbers == whole.numbers).all()
    assert (again.values == whole.values).all()
    assert (again.statistics.histogram == whole.statistics.histogram).all()
    assert (again.statistics.mean == whole.statistics.mean).all()


@pytest.mark.parametrize("change", [{"k": 4}, {"layer": "c"}, {"preprocess": "tf"}, {"batch": 5}])
def test_another_question_begins_anew(folder, change):
    assert job(folder).key != job(folder, **change).key
    assert job(folder).key == job(folder).key
    os.utime(folder / "000.png", (1, 1))
    assert job(folder).key != job(folder, images=job(folder).images[1:]).key


def test_a_changed_picture_begins_anew(folder):
    before = job(folder).key
    Image.fromarray(np.zeros((12, 14, 3), np.uint8)).save(folder / "000.png")
    assert job(folder).key != before


def test_a_file_that_is_no_progress_is_left_alone(folder, tmp_path):
    mine = tmp_path / "mine.npz"
    mine.write_bytes(b"my own numbers")
    with pytest.raises(OutputError, match="no progress of onnxviz top"):
        top_images(small_net(), folder, "r", "0", **OPTIONS, progress=mine)
    assert mine.read_bytes() == b"my own numbers"


def test_a_tar_gives_what_its_folder_gives(folder):
    import tarfile

    with tarfile.open("set.tar", "w") as archive:
        for path in sorted(folder.rglob("*.png"), key=lambda path: path.as_posix()):
            archive.add(path)
    ours = top_images(small_net(), "set.tar", "r", "all", **OPTIONS)
    theirs = top_images(small_net(), "set", "r", "all", **OPTIONS)
    assert (ours.numbers == theirs.numbers).all()
    assert (ours.values == theirs.values).all()
    assert ours.paths[0][0] == f"set.tar/{Path(theirs.paths[0][0]).as_posix()}"


def test_a_model_of_open_size_is_given_one(folder):
    text = TEXT.replace("12,14", "H,W").format(batch="N")
    model = net(text, {w.name: onnx.numpy_helper.to_array(w) for w in small_net().graph.initializer})
    with pytest.raises(ShapeError, match="--size HxW"):
        top_images(model, folder, "r", "all", 4, **OPTIONS)
    found = top_images(model, folder, "r", "all", 4, **OPTIONS, size=(12, 14))
    fixed = top_images(small_net(), folder, "r", "all", 4, **OPTIONS)
    assert (found.positions == fixed.positions).all()
    assert (found.numbers == fixed.numbers).all()


def test_wrong_questions(folder):
    with pytest.raises(SelectorError, match="did you mean 'ray'"):
        top_images(small_net(), folder, "r", engine="rayy", **OPTIONS)
    with pytest.raises(SelectorError, match="at least 1 picture"):
        top_images(small_net(), folder, "r", k=0, **OPTIONS)
    with pytest.raises(SelectorError, match="channels 0 to 4"):
        top_images(small_net(), folder, "r", "9", **OPTIONS)
    with pytest.raises(SelectorError, match="no layer"):
        top_images(small_net(), folder, "zz", **OPTIONS)


def test_the_histogram_counts_every_float_where_it_belongs():
    values = np.array(
        [0.0, -0.0, 1e-45, 1.0, 1.03, -1.0, 2.0**-33, 2.0**33, np.inf, np.nan, -np.inf, 1.999], np.float32
    )
    counts = empty_counts(1)
    count(values.reshape(1, 1, -1), counts)
    assert counts[0, ZERO] == 3  # a subnormal number is zero to most devices
    assert counts[0, BINS] == 3
    assert counts.sum() == len(values)
    rng = np.random.default_rng(0)
    numbers = (rng.normal(0, 1, 5000) * 10 ** rng.uniform(-6, 6, 5000)).astype(np.float32)
    many = empty_counts(1)
    count(numbers.reshape(1, 1, -1), many)
    exact = np.quantile(numbers.astype(np.float64), LEVELS, method="inverted_cdf")
    np.testing.assert_allclose(quantiles(many)[0], exact, rtol=1 / 32)
    assert np.isnan(quantiles(empty_counts(1))).all()
    assert (np.diff(MIDDLES) > 0).all()


def test_bars_hold_all_that_was_counted_between_their_ends():
    numbers = np.random.default_rng(0).normal(0, 2, 4000).astype(np.float32)
    counts = empty_counts(1)
    count(numbers.reshape(1, 1, -1), counts)
    edges = np.linspace(-4, 4, 17)
    found = bars(counts[0], edges)
    exact, _ = np.histogram(numbers, edges)
    np.testing.assert_allclose(found, exact, atol=0.05 * exact.max())
    assert found.sum() == pytest.approx(exact.sum(), rel=0.01)


# Ray warns of settings of its own.
@pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\..*")
def test_ray_gives_the_same_answer(folder, monkeypatch):
    ray = pytest.importorskip("ray", reason="needs Ray: pip install onnxviz[ray]")
    monkeypatch.setattr("onnxviz.methods.top.job.CHUNK", 8)
    model = Path("model.onnx")
    onnx.save(small_net(), model)
    here = top_images(model, folder.absolute(), "r", "all", **OPTIONS)
    root, tests = Path(onnxviz.__file__).parents[1], Path(__file__).parents[1]
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(root), str(tests)])}},
    )
    try:
        there = top_images(model, folder.absolute(), "r", "all", **OPTIONS, engine="ray", workers=2)
    finally:
        ray.shutdown()
    assert there.paths == here.paths
    for name in ("values", "numbers", "positions", "boxes"):
        assert (getattr(there, name) == getattr(here, name)).all()
    for name in ("mean", "least", "greatest", "quantiles", "zeros", "dead", "histogram"):
        assert np.array_equal(getattr(there.statistics, name), getattr(here.statistics, name))
    assert there.manifest["pictures"] == here.manifest["pictures"]
