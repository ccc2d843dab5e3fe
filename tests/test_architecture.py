import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onnxviz

PACKAGE = Path(onnxviz.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom: a room may import those on lower floors, and itself.
FLOORS = [
    {"errors"},
    {"extras", "files", "samples"},
    {"graph"},
    {"autodiff", "runtime", "vision", "quality"},
    {"views"},
    {"methods"},
    {"auditing"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ASIDE = {
    # The door: it names every public thing, and loads none before it is used.
    "__init__": set(FLOOR),
    "__main__": {"cli"},
    "_reference": {"errors", "graph", "autodiff"},
    "testing": {"errors", "graph", "autodiff", "_reference"},
}
# Who may import what is heavy or has side effects; nobody imports matplotlib.pyplot.
ONLY_IN = {
    "matplotlib": {"views"},
    "rich": {"cli"},
    "click": {"cli"},
    "onnxruntime": {"runtime"},
    "PIL": {"vision", "views"},
    "jinja2": {"auditing"},
}
HEAVY = ["onnx", "onnx_ir", "onnxruntime", "scipy", "matplotlib", "PIL", "rich", "jinja2"]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(tree: ast.AST, name: str, inside: bool = True) -> Iterator[str]:
    """The modules that a module imports, wherever in it (`inside`), or only while it is imported."""
    nodes = ast.walk(tree) if inside else at_import(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} has a relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            argument = node.args[0]
            yield from ([str(argument.value)] if isinstance(argument, ast.Constant) else [])


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) and not typing_only:
            yield node
            yield from at_import(node)


TREES = {path: ast.parse(path.read_text("utf-8")) for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    allowed = ASIDE.get(room, {other for other in FLOOR if FLOOR[other] < FLOOR.get(room, 0)}) | {room}
    for name in imports(TREES[path], name_of(path)):
        parts = name.split(".")
        if parts[0] == "onnxviz" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{name_of(path)} imports {name}, which is not below {room}"


def test_every_room_has_its_floor() -> None:
    rooms = {room_of(path) for path in MODULES}
    assert rooms <= {*FLOOR, *ASIDE}
    assert {*FLOOR, *ASIDE} == rooms


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_heavy_packages_stay_in_their_rooms(path: Path) -> None:
    for name in imports(TREES[path], name_of(path)):
        package = name.split(".")[0]
        assert room_of(path) in ONLY_IN.get(package, {room_of(path)}), f"{name_of(path)} imports {name}"
        assert not name.startswith("matplotlib.pyplot"), name_of(path)


def test_no_module_needs_itself() -> None:
    known = {name_of(path) for path in MODULES}
    needs = {
        name_of(path): {name for name in imports(TREES[path], name_of(path), inside=False) if name in known}
        for path in MODULES
    }
    settled: set[str] = set()
    while needs:
        free = {name for name, others in needs.items() if others - {name} <= settled}
        assert free, f"these import one another in a circle: {sorted(needs)}"
        settled |= free
        needs = {name: others for name, others in needs.items() if name not in free}


def test_no_room_hides_a_public_function() -> None:
    rooms = {room_of(path) for path in MODULES}
    assert not rooms & {*onnxviz.__all__, *onnxviz._HOMES}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is(path: Path) -> None:
    docstring = ast.get_docstring(TREES[path])
    assert docstring
    assert docstring.splitlines()[0].strip()


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh Python has loaded after running `code`."""
    listing = f"{code}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", listing], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    "code",
    [
        "import onnxviz",
        "import onnxviz\ndir(onnxviz)\nonnxviz.OnnxvizError",
        "import onnxviz.cli",
        "from onnxviz.cli import main\nmain(['--help'], standalone_mode=False)",
        "from onnxviz.cli import main\nmain(['--version'], standalone_mode=False)",
        "from onnxviz.cli import main\nmain(['inspct'], standalone_mode=False)",
    ],
)
def test_what_runs_nothing_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & {*HEAVY, "numpy"}


@pytest.mark.parametrize(
    ("code", "unneeded"),
    [
        ("import onnxviz\nonnxviz.load", {"onnxruntime", "matplotlib", "PIL", "rich"}),
        ("import onnxviz\nonnxviz.gradient", {"onnxruntime", "matplotlib", "PIL", "rich"}),
        ("import onnxviz\nonnxviz.Session", {"matplotlib", "PIL", "rich"}),
        ("import onnxviz\nonnxviz.activations", {"matplotlib", "rich", "click"}),
    ],
)
def test_a_name_loads_what_it_needs_alone(code: str, unneeded: set[str]) -> None:
    assert not loaded_by(code) & unneeded
