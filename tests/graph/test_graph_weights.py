import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from graph.nets import listing, net, noise, run
from onnx import TensorProto, helper, numpy_helper

from onnxviz.autodiff.pullback import gradient
from onnxviz.errors import ModelError, OutputError
from onnxviz.graph.expose import cut, expose
from onnxviz.graph.layers import total_parameters
from onnxviz.graph.model import load
from onnxviz.graph.ops import constant_of
from onnxviz.graph.weights import external_tensors

HEAD = """(float[N,3,8,8] x) => (float[N,50] y) {
    c = Conv<pads=[1,1,1,1]>(x, w, b)
    r = Relu(c)
    p = GlobalAveragePool(r)
    f = Flatten(p)
    y = Gemm<transB=1>(f, v)
}"""
X = noise(2, 3, 8, 8, seed=9)


def head_arrays():
    return {"w": noise(40, 3, 3, 3), "b": noise(40, seed=1), "v": noise(50, 40, seed=2)}


def outside(tensor, location, offset=0, length=None):
    """Make a tensor one whose numbers lie in a file."""
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))


def write(folder, location="weights.bin", name="m.onnx", arrays=None):
    """The model with all its weights in one file; returns the path of the model."""
    arrays = arrays or head_arrays()
    proto = net(HEAD, **arrays)
    data = b"between the tensors"
    for tensor in proto.graph.initializer:
        numbers = arrays[tensor.name].tobytes()
        outside(tensor, location, len(data), len(numbers))
        data += numbers
    folder.mkdir(exist_ok=True)
    file = folder / location
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    (folder / name).write_bytes(proto.SerializeToString())
    return folder / name


def link(place, target):
    try:
        Path(place).symlink_to(target)
    except OSError as err:  # Windows lets few people do that
        pytest.skip(f"no symbolic links here: {err}")


def expected():
    return run(net(HEAD, **head_arrays()), {"x": X})["y"]


def answers(path):
    """What plain onnxruntime answers for the file, in its own folder."""
    return next(iter(run(str(path), {"x": X}).values()))


# --- where weights may lie -----------------------------------------------------------------------------


def test_weights_stay_on_disk(tmp_path):
    path = write(tmp_path)
    model = load(path)
    assert model.weights_folder == tmp_path
    assert [value.name for value in model.inputs] == ["x"]
    assert {tensor.name for tensor in external_tensors(model.ir_model)} == {"w", "v"}
    assert total_parameters(model) == 40 * 27 + 40 + 50 * 40
    assert len(model.serialize()) < 2000
    np.testing.assert_array_equal(constant_of(model.tensor("v")), head_arrays()["v"])
    np.testing.assert_array_equal(answers(path), expected())


def test_a_model_without_files_has_no_weights_folder():
    assert load(net(HEAD, **head_arrays())).weights_folder is None


def test_weights_are_found_when_the_working_folder_changes(tmp_path, monkeypatch):
    write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    model = load("m.onnx")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert model.weights_folder == tmp_path
    np.testing.assert_array_equal(constant_of(model.tensor("v")), head_arrays()["v"])


def test_the_weights_of_a_proto_lie_in_the_working_folder(tmp_path, monkeypatch):
    proto = onnx.load(write(tmp_path), load_external_data=False)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(constant_of(load(proto).tensor("w")), head_arrays()["w"])


def test_weights_in_a_subfolder(tmp_path):
    path = write(tmp_path, "parts/deep/weights.bin")
    model = load(path)
    np.testing.assert_array_equal(constant_of(model.tensor("w")), head_arrays()["w"])
    (tmp_path / "out").mkdir()
    model.save(tmp_path / "out/m.onnx")
    assert (tmp_path / "out/parts/deep/weights.bin").is_file()
    np.testing.assert_array_equal(answers(tmp_path / "out/m.onnx"), expected())


def refused(proto, folder, words):
    path = folder / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert words in message


def secret_model(location):
    proto = net("(float[3] x) => (float[3] y) { y = Add(x, w) }", w=noise(3))
    outside(proto.graph.initializer[0], location)
    return proto


def test_weights_may_not_lie_outside_the_folder(tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    link(home / "link.bin", tmp_path / "secret.bin")
    link(home / "away", tmp_path)
    secret = str(tmp_path / "secret.bin")
    for location in (secret, "../secret.bin", "sub/../../secret.bin", "link.bin", "away/secret.bin"):
        refused(
            secret_model(location), home, f"the weights of 'w' lie outside the model's folder ({location})"
        )


@pytest.mark.parametrize("where", ["constant", "branch", "branch constant", "function"])
def test_weights_in_every_corner_of_a_model_are_checked(tmp_path, where):
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    tensor = numpy_helper.from_array(noise(3), "w")
    outside(tensor, "../secret.bin")
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    add, result = helper.make_node("Add", ["x", "w"], ["z"]), helper.make_empty_tensor_value_info("z")
    proto = net("(float[3] x, bool c) => (float[3] y) { y = Relu(x) }")
    del proto.graph.node[:]
    if where == "constant":
        proto.graph.node.extend([constant, helper.make_node("Add", ["x", "w"], ["y"])])
    elif where == "function":
        proto.functions.append(
            helper.make_function("custom", "F", ["x"], ["z"], [constant, add], [helper.make_opsetid("", 18)])
        )
        proto.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="custom"))
    else:
        inner = [add] if where == "branch" else [constant, add]
        branch = helper.make_graph(inner, "t", [], [result], [tensor] if where == "branch" else [])
        proto.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch))
    refused(proto, home, "lie outside the model's folder (../secret.bin)")


def test_a_missing_weight_file(tmp_path):
    refused(secret_model("gone.bin"), tmp_path, f"there is no file {tmp_path / 'gone.bin'}; put it beside")
    (tmp_path / "folder").mkdir()
    refused(secret_model("folder"), tmp_path, "the weights of 'w' are missing")
    refused(secret_model(""), tmp_path, "the weights of 'w' are missing")


def test_a_weight_file_that_is_cut_short(tmp_path):
    path = write(tmp_path)
    file = tmp_path / "weights.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"'v' are not all in .*weights\.bin, which is truncated"):
        load(path)


def test_offsets_that_are_no_numbers(tmp_path):
    (tmp_path / "w.bin").write_bytes(bytes(100))
    proto = secret_model("w.bin")
    outside(proto.graph.initializer[0], "w.bin", "zero")
    refused(proto, tmp_path, "the graph cannot be read")


@pytest.mark.parametrize("shape", [(40,), (4, 10)])
def test_a_file_that_is_one_tensor(tmp_path, shape):
    """Neither an offset nor a length is said."""
    w = noise(*shape)
    (tmp_path / "w.bin").write_bytes(w.tobytes())
    proto = net("(float[40] x) => (float[40] y) { k = Reshape(w, s) y = Add(x, k) }", w=w, s=np.array([40]))
    outside(proto.graph.initializer[0], "w.bin", None)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(constant_of(model.tensor("w")), w)
    (tmp_path / "w.bin").write_bytes(w.tobytes()[:-1])
    refused(proto, tmp_path, "are not all in")


def test_weights_that_vanish_later_are_a_model_error(tmp_path):
    model = load(write(tmp_path))
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match="the weights of 'v' cannot be read"):
        constant_of(model.tensor("v"))
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match=r"weights\.bin: the file is gone"):
        model.save(tmp_path / "out/m.onnx")
    assert listing(tmp_path / "out") == []


def test_shapes_are_read_from_files_too(tmp_path):
    """Some exporters write every tensor outside, the target of a Reshape as well."""
    proto = net(
        "(float[1,3,8,8] x) => (float[a,b] y) { h = Reshape(x, s) y = Mul(h, k) }",
        s=np.array([3, -1]),
        k=noise(64),
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = load(path)
    assert [layer.shape for layer in model.layers] == [(3, 64), (3, 64)]
    x = noise(1, 3, 8, 8)
    np.testing.assert_array_equal(run(model.serialize(), {"x": x})["y"], x.reshape(3, 64) * noise(64))


def test_constants_outside_are_read_into_the_model(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"...." + np.array([1, 2, 3], np.float32).tobytes() + b"behind")
    tensor = numpy_helper.from_array(noise(3), "w")
    outside(tensor, "w.bin", 4)
    proto = net("(float[3] x) => (float[3] y) { y = Add(x, w) }")
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    np.testing.assert_array_equal(constant_of(model.tensor("w")), [1, 2, 3])
    np.testing.assert_array_equal(run(model.serialize(), {"x": np.zeros(3, np.float32)})["y"], [1, 2, 3])


def branches(folder):
    """A model whose weights lie in a branch, and on disk."""
    w = noise(20, 20)
    (folder / "w.bin").write_bytes(w.tobytes())
    text = """(float[2,20] x, bool c) => (float[2,20] y) { h = Neg(x) y = If(c) <
        then_branch = t () => (float[2,20] a) { a = MatMul(h, w) },
        else_branch = e () => (float[2,20] b) { b = Relu(h) }> }"""
    proto = net(text)
    tensor = numpy_helper.from_array(w, "w")
    outside(tensor, "w.bin")
    proto.graph.node[1].attribute[0].g.initializer.append(tensor)
    (folder / "m.onnx").write_bytes(proto.SerializeToString())
    return folder / "m.onnx", w


def test_weights_of_a_branch_stay_on_disk(tmp_path):
    path, w = branches(tmp_path)
    model = load(path)
    assert model.weights_folder == tmp_path
    assert [tensor.path for tensor in external_tensors(model.ir_model)] == [str(tmp_path / "w.bin")]
    feeds = {"x": noise(2, 20, seed=1), "c": np.array(True)}
    (tmp_path / "out").mkdir()
    for version in (model, model.resized({"x": [2, 20]}), expose(model, "y")):
        assert version.weights_folder == tmp_path
        version.save(tmp_path / "out/m.onnx")
        found = run(str(tmp_path / "out/m.onnx"), feeds)["y"]
        np.testing.assert_allclose(found, -feeds["x"] @ w, rtol=1e-4, atol=1e-5)
    assert listing(tmp_path / "out") == ["m.onnx", "w.bin"]


# --- saving --------------------------------------------------------------------------------------------


def versions(model):
    halves = cut(model, "r", "y")
    return {
        "itself": model,
        "exposed": expose(model, "y"),
        "head": halves.head,
        "tail": halves.tail,
        "gradient": gradient(model, "y", ["x", "v"]),
        "resized": model.resized({"x": [2, 3, 8, 8]}),
    }


def test_rewrites_refer_to_the_same_file(tmp_path):
    for version in versions(load(write(tmp_path))).values():
        assert version.weights_folder == tmp_path
        assert {Path(tensor.path) for tensor in external_tensors(version.ir_model)} == {
            tmp_path / "weights.bin"
        }
        assert len(version.serialize()) < 20_000


def test_saved_into_the_same_folder(tmp_path):
    path = write(tmp_path)
    before = path.read_bytes(), (tmp_path / "weights.bin").read_bytes()
    stat = (tmp_path / "weights.bin").stat()
    for name, version in versions(load(path)).items():
        version.save(tmp_path / f"{name}.onnx")
    again = (tmp_path / "weights.bin").stat()
    assert (again.st_ino, again.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)
    assert listing(tmp_path) == sorted(
        ["m.onnx", "weights.bin", *(f"{name}.onnx" for name in versions(load(path)))]
    )
    for name in ("itself", "exposed", "resized"):
        np.testing.assert_array_equal(answers(tmp_path / f"{name}.onnx"), expected())
    middle = run(str(tmp_path / "head.onnx"), {"x": X})
    np.testing.assert_allclose(run(str(tmp_path / "tail.onnx"), middle)["y"], expected(), rtol=1e-5)
    assert (path.read_bytes(), (tmp_path / "weights.bin").read_bytes()) == before


def test_saved_into_another_folder(tmp_path):
    path = write(tmp_path / "from")
    out = tmp_path / "to"
    out.mkdir()
    for name, version in versions(load(path)).items():
        version.save(out / f"{name}.onnx")
    assert len(listing(out)) == len(versions(load(path))) + 1
    assert (out / "weights.bin").read_bytes() == (tmp_path / "from/weights.bin").read_bytes()
    (tmp_path / "from/weights.bin").unlink()
    for name in ("itself", "exposed", "resized"):
        np.testing.assert_array_equal(answers(out / f"{name}.onnx"), expected())
    middle = run(str(out / "head.onnx"), {"x": X})
    np.testing.assert_allclose(run(str(out / "tail.onnx"), middle)["y"], expected(), rtol=1e-5)
    again = load(out / "itself.onnx")
    assert again.weights_folder == out
    np.testing.assert_array_equal(constant_of(again.tensor("v")), head_arrays()["v"])


def test_saving_leaves_the_source_readable_for_onnx(tmp_path):
    """onnx and onnx-ir refuse a weight file that has several hard links."""
    path = write(tmp_path / "from")
    (tmp_path / "to").mkdir()
    load(path).save(tmp_path / "to/m.onnx")
    for file in (path, tmp_path / "to/m.onnx"):
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(file).graph.initializer}
        np.testing.assert_array_equal(weights["v"], head_arrays()["v"])
        onnx.checker.check_model(str(file), full_check=True)


def test_a_different_file_of_the_same_name_is_left_alone(tmp_path):
    path = write(tmp_path / "from")
    out = tmp_path / "to"
    out.mkdir()
    (out / "weights.bin").write_bytes(b"of somebody else")
    (out / "weights-2.bin").mkdir()
    load(path).save(out / "m.onnx")
    assert listing(out) == ["m.onnx", "weights-2.bin", "weights-3.bin", "weights.bin"]
    assert (out / "weights.bin").read_bytes() == b"of somebody else"
    np.testing.assert_array_equal(answers(out / "m.onnx"), expected())
    stat = (out / "weights-3.bin").stat()
    load(path).save(out / "m.onnx")
    assert listing(out) == ["m.onnx", "weights-2.bin", "weights-3.bin", "weights.bin"]
    again = (out / "weights-3.bin").stat()
    assert (again.st_ino, again.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)  # it was there already


def test_a_file_of_the_same_size_and_time_is_another(tmp_path):
    path = write(tmp_path / "from")
    source, out = tmp_path / "from/weights.bin", tmp_path / "to"
    out.mkdir()
    (out / "weights.bin").write_bytes(source.read_bytes()[::-1])
    times = source.stat()
    os.utime(out / "weights.bin", ns=(times.st_atime_ns, times.st_mtime_ns))
    load(path).save(out / "m.onnx")
    assert listing(out) == ["m.onnx", "weights-2.bin", "weights.bin"]
    np.testing.assert_array_equal(answers(out / "m.onnx"), expected())


def test_a_link_inside_the_folder_is_followed(tmp_path):
    path = write(tmp_path / "from")
    (tmp_path / "from/weights.bin").rename(tmp_path / "from/real.bin")
    link(tmp_path / "from/weights.bin", "real.bin")
    (tmp_path / "to").mkdir()
    load(path).save(tmp_path / "to/m.onnx")
    assert not (tmp_path / "to/weights.bin").is_symlink()
    np.testing.assert_array_equal(answers(tmp_path / "to/m.onnx"), expected())


def test_the_weights_are_never_overwritten(tmp_path):
    path = write(tmp_path)
    before = (tmp_path / "weights.bin").read_bytes()
    for version in versions(load(path)).values():
        with pytest.raises(OutputError, match=r"weights\.bin holds the weights of the model itself"):
            version.save(tmp_path / "weights.bin")
    assert (tmp_path / "weights.bin").read_bytes() == before
    np.testing.assert_array_equal(answers(path), expected())


def test_a_model_may_have_the_name_of_its_weights_elsewhere(tmp_path):
    path = write(tmp_path / "from", "m.data")
    (tmp_path / "to").mkdir()
    load(path).save(tmp_path / "to/m.data")
    assert listing(tmp_path / "to") == ["m-2.data", "m.data"]
    np.testing.assert_array_equal(answers(tmp_path / "to/m.data"), expected())


def test_weights_that_cannot_be_placed_leave_nothing(tmp_path, monkeypatch):
    path = write(tmp_path / "from")
    out = tmp_path / "to"
    out.mkdir()

    def fail(source, target):
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfile", fail)
    with pytest.raises(OutputError, match=r"weights\.bin: No space left on device; make room"):
        load(path).save(out / "m.onnx")
    assert listing(out) == []


def test_a_folder_that_is_not_there(tmp_path):
    model = load(write(tmp_path / "from"))
    with pytest.raises(OutputError, match="make the folder first"):
        model.save(tmp_path / "no/m.onnx")
    assert listing(tmp_path) == ["from"]


def test_a_model_too_large_for_one_file_keeps_its_weights(tmp_path, monkeypatch):
    """What lies inside goes to a file of its own, past the weights that have its name."""
    path = write(tmp_path, "m.onnx.data")
    model = load(path)
    before = (tmp_path / "m.onnx.data").read_bytes()
    monkeypatch.setattr("onnxviz.graph.model._PROTOBUF_LIMIT", 100)
    out = tmp_path / "out"
    out.mkdir()
    model.save(out / "m.onnx")
    np.testing.assert_array_equal(answers(out / "m.onnx"), expected())
    assert (tmp_path / "m.onnx.data").read_bytes() == before
    model.save(tmp_path / "n.onnx")
    np.testing.assert_array_equal(answers(tmp_path / "n.onnx"), expected())
    np.testing.assert_array_equal(answers(path), expected())


# --- weights above two gigabytes -----------------------------------------------------------------------

LARGE = """
    import resource, sys
    from pathlib import Path
    from onnxviz.autodiff.pullback import gradient
    from onnxviz.graph.expose import cut, expose
    from onnxviz.graph.model import load
    from onnxviz.graph.weights import external_tensors

    def peak():
        # Megabytes. Linux hands ru_maxrss down from the parent, so there it is read elsewhere.
        if sys.platform == "linux":
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            return int(status["VmHWM"].split()[0]) // 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20

    folder = Path(sys.argv[1])
    start = peak()
    model = load(folder / "m.onnx")
    assert sum(layer.params for layer in model.layers) == 27 * 40 + 40 * 7 + 7 * 80_000_000
    assert " ".join(layer.op for layer in model.layers) == "Conv Relu GlobalAveragePool Flatten Gemm Gemm"
    halves = cut(model, "r", "y")
    made = {
        "itself": model,
        "exposed": expose(model, ["c", "h"]),
        "head": halves.head,
        "tail": halves.tail,
        "gradient": gradient(model, "y", ["x", "f", "r"]),
    }
    for name, version in made.items():
        version.save(folder / f"{name}.onnx")
        assert (folder / f"{name}.onnx").stat().st_size < 30_000
        for tensor in external_tensors(version.ir_model):
            assert Path(tensor.path) == folder / "weights.bin"
    assert len(external_tensors(load(folder / "gradient.onnx").ir_model)) == 3
    print(peak() - start)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse there")
def test_weights_above_two_gigabytes_are_never_read(tmp_path):
    text = """(float[N,3,8,8] x) => (float[N,80000000] y) {
        c = Conv<pads=[1,1,1,1]>(x, w)
        r = Relu(c)
        p = GlobalAveragePool(r)
        f = Flatten(p)
        h = Gemm<transB=1>(f, v)
        y = Gemm(h, u)
    }"""
    proto, offset = net(text), 0
    for name, shape in {"w": (40, 3, 3, 3), "v": (7, 40), "u": (7, 80_000_000)}.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        length = 4 * int(np.prod(shape))
        outside(tensor, "weights.bin", offset, length)
        offset += length
        proto.graph.initializer.append(tensor)
    assert offset > 2**31
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    try:
        (tmp_path / "weights.bin").touch()
        os.truncate(tmp_path / "weights.bin", offset)
    except OSError as err:
        pytest.skip(f"this disk holds no sparse file: {err}")
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(LARGE), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 300
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", *[".onnx"] * 6]
