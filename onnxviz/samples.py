"""The model and the picture that come with onnxviz, as files."""

from pathlib import Path

from onnxviz.errors import ModelError

PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "data", PACKAGE.parent / "models")  # in an installed wheel; in a checkout


def sample_model() -> Path:
    """SqueezeNet 1.1 on ImageNet, with its preprocessing and class names in the metadata.

    Raises:
        ModelError: The file is missing from the installation or the checkout.
    """
    return _find("squeezenet1.1.onnx", "run `python scripts/build_squeezenet.py`")


def sample_picture() -> Path:
    """Chelsea the cat, 451 x 300 pixels, RGB.

    Raises:
        ModelError: The file is missing from the installation or the checkout.
    """
    return _find("chelsea.png", "run `git restore models/chelsea.png`")


def _find(name: str, remedy: str) -> Path:
    for folder in FOLDERS:
        if (folder / name).is_file():
            return folder / name
    looked = " nor ".join(str(folder) for folder in FOLDERS)
    raise ModelError(
        f"the sample {name} is neither in {looked}; install onnxviz again, or in a checkout {remedy}"
    )
