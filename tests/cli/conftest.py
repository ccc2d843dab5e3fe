import pytest
from cli.bench import fill


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder, with model.onnx, cat.png and dog.png in it."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
