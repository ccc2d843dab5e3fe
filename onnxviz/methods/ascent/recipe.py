"""`Recipe`: every setting of an ascent; and the published ones by name."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from onnxviz.errors import SelectorError, did_you_mean

ImageKind: TypeAlias = Literal["pixels", "fourier", "maco"]
Optimizer: TypeAlias = Literal["sgd", "adam", "nadam", "rmsprop"]
Norm: TypeAlias = Literal["none", "rms", "std", "l2", "mean"]
Aim: TypeAlias = Literal["channel", "neuron", "layer"]
Display: TypeAlias = Literal["real", "std", "minmax", "pct2"]
Kept: TypeAlias = Literal["last", "best"]

LUCID_TRANSFORMS = ("pad:12", "jitter:8", "scale:0.9:1.1:11", "rotate:10:5", "jitter:4")


@dataclass(frozen=True)
class Recipe:
    """How a picture is made that raises an objective; lengths and rates are in pixels of 0 to 255.

    Attributes:
        image: What is optimised: the pixels, their Fourier coefficients, or the phases alone.
        low, high: Pixels start uniform between them.
        noise: The standard deviation of what is added to the start: of pixels, coefficients or phases.
        steps: How many steps.
        optimizer, rate: The step's rule and length; `sgd` adds the gradient times the rate.
        normalise: What the gradient of each picture is divided by first.
        epsilon: Added to that divisor.
        progress: With `sgd`: the rise that a step should bring, which `rate` then limits; 0: none.
        transforms: What is done to the picture before the model sees it; see `transforms`.
        crops: How many random crops of the picture the model sees at each step; 0: the picture itself.
        redirect: For how many first steps a dead ReLU passes the gradient that would wake it.
        decay: The share by which a picture shrinks towards the mean colour after each step.
        blur, blur_every: A Gaussian's standard deviation in pixels, applied after every so many steps.
        small_norm, small_contribution: The percentage of pixels of least norm, or least product of value
            and gradient, that are set to the mean colour after each step.
        l1, tv: Weights of penalties: the mean distance to the mean colour, the mean total variation.
        clip: Whether pixels stay between 0 and 255.
        octaves, octave_scale: How often the picture is begun anew, each time larger by that factor.
        size: The picture's side where the model leaves its input's size open; None: its own default.
        aim: What "this channel" stands for: its mean, its middle unit, or all of the layer.
        keep: Which picture is the result: the last, or the one that scored best.
        display: How numbers are shown: as they are, by mean and deviation, by minimum and maximum, or by
            the 2nd and 98th percentile.
        decorrelate: Whether coefficients are of colours that do not vary together in photographs.
    """

    image: ImageKind = "pixels"
    low: float = 128.0
    high: float = 128.0
    noise: float = 0.0
    steps: int = 30
    optimizer: Optimizer = "sgd"
    rate: float = 1.0
    normalise: Norm = "none"
    epsilon: float = 1e-8
    progress: float = 0.0
    transforms: tuple[str, ...] = ()
    crops: int = 0
    redirect: int = 0
    decay: float = 0.0
    blur: float = 0.0
    blur_every: int = 1
    small_norm: float = 0.0
    small_contribution: float = 0.0
    l1: float = 0.0
    tv: float = 0.0
    clip: bool = False
    octaves: int = 1
    octave_scale: float = 1.4
    size: int | None = None
    aim: Aim = "channel"
    keep: Kept = "last"
    display: Display = "real"
    decorrelate: bool = True

    def __post_init__(self) -> None:
        """Refuse what cannot be done."""
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SelectorError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(choices)}")
        for name in ("steps", "octaves", "blur_every"):
            if getattr(self, name) < 1:
                raise SelectorError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("small_norm", "small_contribution"):
            if not 0 <= getattr(self, name) < 100:
                raise SelectorError(f"{name} is a percentage below 100, not {getattr(self, name)}")
        if not 0 <= self.decay < 1:
            raise SelectorError(f"decay is a share below 1, not {self.decay}")
        if self.octave_scale <= 1:
            raise SelectorError(f"octave_scale is above 1, not {self.octave_scale}")
        if self.image != "pixels" and self.octaves > 1:
            raise SelectorError(f"octaves begin from pixels, not from {self.image}; give --image pixels")
        if self.image != "pixels" and self._keeps_pixels:
            raise SelectorError(
                f"{', '.join(self._keeps_pixels)} change pixels after a step, and this recipe optimises "
                f"{self.image}; give --image pixels"
            )

    @property
    def _keeps_pixels(self) -> list[str]:
        plain = Recipe.__dataclass_fields__
        names = ("decay", "blur", "small_norm", "small_contribution", "clip")
        return [name for name in names if getattr(self, name) != plain[name].default]


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "image": get_args(ImageKind),
    "optimizer": get_args(Optimizer),
    "normalise": get_args(Norm),
    "aim": get_args(Aim),
    "keep": get_args(Kept),
    "display": get_args(Display),
}

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        # F. Chollet, Deep Learning with Python (2017), section 5.4.2: a grey picture with some noise, 40
        # steps of the gradient over its root mean square, shown by mean and standard deviation.
        "chollet": Recipe(
            low=128.0, high=148.0, steps=40, rate=1.0, normalise="rms", epsilon=1e-5, display="std"
        ),
        # M. E. Hvass Pedersen, TensorFlow Tutorial 13: 30 steps of the gradient over its standard deviation.
        "hvass": Recipe(
            low=128.0,
            high=129.0,
            steps=30,
            rate=1.0,
            normalise="std",
            epsilon=1e-8,
            clip=True,
            display="minmax",
        ),
        # The same, Tutorial 13-B: pixels of 0 to 1 there, so that a step is the whole range.
        "hvass-b": Recipe(
            low=0.45 * 255,
            high=0.55 * 255,
            steps=30,
            rate=255.0,
            normalise="std",
            epsilon=1e-8 / 255,
            clip=True,
            display="minmax",
        ),
        # J. Yosinski et al. 2015 (arXiv 1506.06579), table 1, third row; the toolbox of the authors pushes
        # one unit and keeps the best picture.
        "yosinski": Recipe(
            noise=10.0,
            steps=1000,
            rate=100.0,
            decay=1e-4,
            blur=1.0,
            blur_every=4,
            clip=True,
            aim="neuron",
            keep="best",
        ),
        # C. Olah, A. Mordvintsev, L. Schubert, Feature Visualization (Distill 2017), as lucid 0.3 has it.
        "lucid": Recipe(
            image="fourier",
            noise=0.01,
            steps=512,
            optimizer="adam",
            rate=0.05,
            transforms=LUCID_TRANSFORMS,
            redirect=16,
            size=128,
        ),
        # T. Fel et al. 2023 (arXiv 2306.06805), as xplique has it.
        "maco": Recipe(
            image="maco",
            noise=1.0,
            steps=256,
            optimizer="nadam",
            rate=1.0,
            epsilon=1e-7,
            crops=32,
            size=512,
        ),
        # A. Mordvintsev, C. Olah, M. Tyka, DeepDream (2015): half the squares of a layer, four octaves.
        "deepdream": Recipe(
            noise=1.0,
            steps=10,
            rate=1.5,
            normalise="mean",
            epsilon=0.0,
            transforms=("roll:32",),
            clip=True,
            octaves=4,
            octave_scale=1.4,
            aim="layer",
        ),
    }
)


def find_recipe(name: str, **overrides: object) -> Recipe:
    """The recipe of that name, with some settings of your own.

    Raises:
        SelectorError: There is no such recipe or setting, or a setting cannot be used.
    """
    if name not in RECIPES:
        near = did_you_mean(name, RECIPES)
        raise SelectorError(f"no recipe {name!r}{near}; there are {', '.join(RECIPES)}")
    known = [each.name for each in fields(Recipe)]
    for key in overrides:
        if key not in known:
            raise SelectorError(f"a recipe has no setting {key!r}{did_you_mean(key, known)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return replace(RECIPES[name], **given)  # type: ignore[arg-type]
