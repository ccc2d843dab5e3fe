import ast
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnxviz import __version__, samples
from onnxviz.cli import main

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def run(*arguments: object, cwd: Path, path: str | None = None) -> str:
    """Run Python with these arguments, and give what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = path
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    [built] = out.glob("*.whl")
    return built


def check_demo(folder: Path, said: str) -> None:
    assert "Egyptian cat" in said
    pictures = list((folder / "onnxviz-out" / "demo").rglob("*.png"))
    assert len(pictures) > 30
    assert (folder / "onnxviz-out" / "demo" / "manifest.json").is_file()


def test_the_wheel_holds_all_that_is_needed(wheel: Path) -> None:
    assert wheel.name == f"onnxviz-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        info = f"onnxviz-{__version__}.dist-info"
        assert archive.read("onnxviz/data/squeezenet1.1.onnx") == samples.sample_model().read_bytes()
        assert archive.read("onnxviz/data/chelsea.png") == samples.sample_picture().read_bytes()
        assert "onnxviz = onnxviz.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        licence = archive.read(f"{info}/licenses/LICENSE").decode()
    assert "onnxviz/py.typed" in names
    assert "onnxviz/data/README.md" in names  # the licences of the model and the picture
    assert licence == (ROOT / "LICENSE").read_text("utf-8")
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "MIT"
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "onnxviz").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources
    assert {name.split("/")[0] for name in names} == {"onnxviz", info}


def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    run(*install, cwd=tmp_path)
    where = run("-c", "import onnxviz; print(onnxviz.__file__)", cwd=tmp_path, path=str(site))
    assert Path(where.strip()).is_relative_to(site)
    check_demo(tmp_path, run("-m", "onnxviz", "demo", "--device", "cpu", cwd=tmp_path, path=str(site)))


@pytest.mark.skipif(importlib.util.find_spec("editables") is None, reason="hatchling needs editables for it")
def test_the_demo_runs_from_an_editable_installation(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*install, "--ignore-installed", "--prefix", prefix, "--editable", ROOT, cwd=tmp_path)
    [pth] = prefix.rglob("*onnxviz*.pth")
    # Without `site`, no other installation's .pth files are read: this one alone leads to the checkout.
    others = [entry for entry in sys.path if "-packages" in entry and Path(entry).is_dir()]
    start = (
        f"import site, sys; sys.path += {others!r}; site.addsitedir({str(pth.parent)!r}); "
        "from onnxviz.cli import main; main(['demo', '--device', 'cpu', '--json'])"
    )
    said = run("-I", "-S", "-c", start, cwd=tmp_path)
    check_demo(tmp_path, said)
    assert len(json.loads(said)["answers"]) >= 6


def test_the_version_is_told_once() -> None:
    assert PROJECT["version"] == __version__


def test_every_package_that_is_imported_is_required() -> None:
    required = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in PROJECT["dependencies"]}
    modules = {"PIL": "pillow", "google": "onnx"}  # protobuf comes with onnx
    for path in (ROOT / "onnxviz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for package in (str(name).partition(".")[0] for name in names):
                if package not in sys.stdlib_module_names and package not in ("onnxviz", "ml_dtypes"):
                    assert modules.get(package, package) in required, f"{path.name} imports {package}"


def shell_lines(page: str) -> Iterator[str]:
    """The commands of a page's ```sh and ```console blocks, those joined by && one by one."""
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.removeprefix("$ ").partition("#")[0].split("&&"):
                if command.strip():
                    yield command.strip()


def placeholders_filled(command: str) -> list[str]:
    """A command of the README as it can be run: MODEL, IMAGE..., FOLDER and OUT.onnx stand for files."""
    stand = {
        "MODEL": "model.onnx",
        "IMAGE...": "cat.png",
        "IMAGE": "cat.png",
        "OUT.onnx": "out.onnx",
        "FOLDER": ".",
    }
    return [stand.get(word, word) for word in shlex.split(command)][1:]


README = (ROOT / "README.md").read_text("utf-8")
SHOWN = dict.fromkeys(
    [
        *(line for line in shell_lines("README.md") if line.startswith("onnxviz ")),
        *(text for text in re.findall(r"`(onnxviz [^`]+)`", README) if "COMMAND" not in text),
    ]
)


@pytest.fixture
def with_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds the README's model.onnx and cat.png."""
    shutil.copyfile(samples.sample_model(), tmp_path / "model.onnx")
    shutil.copyfile(samples.sample_picture(), tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("with_samples")
@pytest.mark.parametrize("command", [command for command in SHOWN if command != "onnxviz demo"])  # see above
def test_every_command_of_the_readme_runs(command: str) -> None:
    result = CliRunner().invoke(main, placeholders_filled(command))
    assert result.exit_code == 0, result.output


def test_the_readme_shows_commands() -> None:
    assert "onnxviz demo" in SHOWN
    assert sum(command.startswith("onnxviz explain") for command in SHOWN) >= 1
    assert len(SHOWN) >= 6


def test_the_python_of_the_readme_runs(with_samples: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    assert (with_samples / "tabby" / "manifest.json").is_file()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_setup_commands_name_what_there_is(page: str) -> None:
    extras = PROJECT["optional-dependencies"]
    commands = [shlex.split(line) for line in shell_lines(page)]
    assert any("pip" in command for command in commands)
    for command in commands:
        if "pip" in command:
            assert command[:4] == ["python3", "-m", "pip", "install"]
            for named in re.findall(r"\[([\w,]+)\]", " ".join(command)):
                assert set(named.split(",")) <= set(extras)
        elif command[0].startswith("."):
            assert (ROOT / command[0]).is_file()


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")))
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text("utf-8")):
        if "://" not in target:
            assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}"
