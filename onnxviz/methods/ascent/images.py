"""What is optimised, and the picture it stands for: pixels, Fourier coefficients, or phases alone.

Pictures are float32 [B, C, H, W] of 0 to 255, colours in the order red, green, blue.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import onnx_ir as ir

from onnxviz.errors import SelectorError
from onnxviz.graph.ops import Ops
from onnxviz.methods.ascent.recipe import Recipe
from onnxviz.methods.ascent.spectrum import Spectrum
from onnxviz.methods.ascent.transforms import Array, Size

# The root of the covariance of colours in ImageNet, from lucid, over its largest column's norm.
_LUCID_COLOUR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_LUCID_COLOUR /= np.linalg.norm(_LUCID_COLOUR, axis=0).max()
# The same as xplique has it: components in rows.
_MACO_COLOUR = np.array(
    [
        [0.56282854, 0.58447580, 0.58447580],
        [0.19482528, 0.00000000, -0.19482528],
        [0.04329450, -0.10823626, 0.06494176],
    ]
).T


class Parameters(Protocol):
    """A way to write pictures as numbers that can be optimised."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one picture's numbers."""

    def start(self, rng: np.random.Generator, around: Array) -> Array:
        """One picture's numbers to begin with; `around` [C, H, W] is the mean colour or a photograph."""

    def write(self, op: Ops, theta: ir.Value) -> ir.Value:
        """The pictures [B, C, H, W] of numbers [B, ...]."""


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves."""

    recipe: Recipe
    channels: int
    size: Size

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W]."""
        return (self.channels, *self.size)

    def start(self, rng: np.random.Generator, around: Array) -> Array:
        """What the recipe starts from, plus its noise; pixels between its bounds are uniform."""
        spread = (self.recipe.high - self.recipe.low) * rng.random(self.shape)
        noise = self.recipe.noise * rng.standard_normal(self.shape) if self.recipe.noise else 0.0
        start = around + spread + noise
        return np.clip(start, 0, 255) if self.recipe.clip else np.asarray(start)

    def write(self, op: Ops, theta: ir.Value) -> ir.Value:
        """Themselves."""
        return op.Identity(theta)


@dataclass(frozen=True)
class Fourier:
    """Fourier coefficients scaled so that each frequency has the energy that it has in photographs.

    x = sigmoid(M irfft2(s (re + i im)) / 4), s = sqrt(H W) / max(f, 1 / max(H, W)) (Olah et al. 2017,
    "Feature Visualization", section "Preconditioning and parameterization"; constants as in lucid).
    """

    recipe: Recipe
    channels: int
    size: Size

    @property
    def shape(self) -> tuple[int, ...]:
        """[2, C, H, columns]: real and imaginary parts."""
        return (2, self.channels, *Spectrum(self.size).shape)

    def start(self, rng: np.random.Generator, around: Array) -> Array:
        """Small random coefficients; those of a photograph are added."""
        noise = self.recipe.noise * rng.standard_normal(self.shape)
        return noise + self._coefficients(around) if _is_picture(around) else noise

    def write(self, op: Ops, theta: ir.Value) -> ir.Value:
        """The pictures of the coefficients."""
        spectrum = Spectrum(self.size)
        scaled = op.Mul(theta, op.constant((self._scale / 4).astype(np.float32)))
        real, imaginary = (op.Gather(scaled, op.scalar(part), axis=1) for part in (0, 1))
        picture = spectrum.inverse(op, real, imaginary)
        if self._in_colour:
            picture = coloured(op, picture, _LUCID_COLOUR)
        return op.Mul(op.Sigmoid(picture), 255.0)

    @property
    def _scale(self) -> Array:
        height, width = self.size
        lowest = 1 / max(height, width)
        return np.asarray(np.sqrt(height * width) / np.maximum(Spectrum(self.size).frequencies, lowest))

    @property
    def _in_colour(self) -> bool:
        return self.recipe.decorrelate and self.channels == 3

    def _coefficients(self, picture: Array) -> Array:
        """The coefficients of a photograph: the way back, what is pure black or white moved in a little."""
        share = np.clip(picture / 255, 1 / 510, 509 / 510)
        plain = np.log(share / (1 - share))
        if self._in_colour:
            plain = np.einsum("ij,jhw->ihw", np.linalg.inv(_LUCID_COLOUR), plain)
        if self.size[1] % 2:
            plain = np.concatenate([plain, plain[..., -1:]], axis=-1)
        values = np.fft.rfft2(plain) * 4 / self._scale
        return np.stack([values.real, values.imag])


@dataclass(frozen=True)
class Maco:
    """Phases alone; the magnitudes are those of photographs (Fel et al. 2023, arXiv 2306.06805, section 3).

    p = (phase - mean) / std; z = irfft2(r e^(i p)); x = sigmoid(M (z - mean) / std), constants as in xplique.

    Attributes:
        magnitude: r, [C, H, columns].
    """

    recipe: Recipe
    channels: int
    size: Size
    magnitude: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, columns]."""
        return (self.channels, *Spectrum(self.size).shape)

    def start(self, rng: np.random.Generator, around: Array) -> Array:
        """Random phases."""
        if _is_picture(around):
            raise SelectorError("maco optimises phases and cannot start from a photograph; leave --start out")
        return self.recipe.noise * rng.standard_normal(self.shape)

    def write(self, op: Ops, theta: ir.Value) -> ir.Value:
        """The pictures of the phases."""
        phase = standardised(op, theta)
        size = op.constant(self.magnitude.astype(np.float32))
        real, imaginary = op.Mul(op.Cos(phase), size), op.Mul(op.Sin(phase), size)
        picture = standardised(op, Spectrum(self.size).inverse(op, real, imaginary))
        if self.recipe.decorrelate and self.channels == 3:
            picture = coloured(op, picture, _MACO_COLOUR)
        return op.Mul(op.Sigmoid(picture), 255.0)


def parameters_for(recipe: Recipe, channels: int, size: Size, magnitude: Array | None = None) -> Parameters:
    """What a recipe optimises, for pictures of so many channels at (height, width)."""
    if recipe.image == "pixels":
        return Pixels(recipe, channels, size)
    if recipe.image == "fourier":
        return Fourier(recipe, channels, size)
    return Maco(recipe, channels, size, natural_magnitude(channels, size) if magnitude is None else magnitude)


def natural_magnitude(channels: int, size: Size) -> Array:
    """Magnitudes that fall as 1 / f, as photographs' do (Field 1987), [C, H, columns].

    The published method takes the mean over ImageNet's training pictures, which this stands for. Where a
    picture has three decorrelated colours they share it.
    """
    spectrum = Spectrum(size)
    fall = 1 / np.maximum(spectrum.frequencies, 1 / max(size))
    return np.broadcast_to(fall, (channels, *spectrum.shape)).copy()


def measured_magnitude(pictures: list[Array], channels: int, size: Size) -> Array:
    """The mean magnitude of pictures [C, H, W] of that size, 0 to 255, their colours decorrelated."""
    found = []
    for picture in pictures:
        plain = picture / 255 - 0.5
        if channels == 3:
            plain = np.einsum("ij,jhw->ihw", np.linalg.inv(_MACO_COLOUR), plain)
        if size[1] % 2:
            plain = np.concatenate([plain, plain[..., -1:]], axis=-1)
        found.append(np.abs(np.fft.rfft2(plain)))
    return np.asarray(np.mean(found, axis=0))


def coloured(op: Ops, picture: ir.Value, matrix: Array) -> ir.Value:
    """Each pixel's components [B, 3, H, W] as a colour: matrix times components."""
    return op.Conv(picture, op.constant(matrix.astype(np.float32)[:, :, None, None]))


def standardised(op: Ops, value: ir.Value) -> ir.Value:
    """Each picture's numbers less their mean, over their standard deviation plus 1e-5."""
    axes = op.ints(1, 2, 3)
    centred = op.Sub(value, op.ReduceMean(value, axes, keepdims=1))
    deviation = op.Sqrt(op.ReduceMean(op.Mul(centred, centred), axes, keepdims=1))
    return op.Div(centred, op.Add(deviation, 1e-5))


def _is_picture(around: Array) -> bool:
    """Whether a start [C, H, W] is more than one colour."""
    return bool((around != around[:, :1, :1]).any())
