"""Each recipe written once more, in plain float64, after its own source; gradients by central differences.

Pictures are [C, H, W], 0 to 255. `value` is the objective of what the network sees. Random numbers are drawn
in the order in which the recipe's own steps draw them.
"""

import math

import numpy as np
from scipy.ndimage import gaussian_filter, zoom


def slope(function, x, reach):
    """The gradient of a function of an array, entry by entry."""
    g = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += reach
        down[place] -= reach
        g[place] = (function(up) - function(down)) / (2 * reach)
    return g


def chollet(value, x, steps):
    """Deep Learning with Python, listing 5.38: x += g / (sqrt(mean(g^2)) + 1e-5)."""
    path = []
    for _ in range(steps):
        g = slope(value, x, 1e-2)
        path.append((x, value(x)))
        x = x + 1.0 * g / (np.sqrt(np.mean(np.square(g))) + 1e-5)
    return [*path, (x, value(x))]


def hvass(value, x, steps):
    """TensorFlow Tutorial 13: image += g / (g.std() + 1e-8); clip to 0..255."""
    path = []
    for _ in range(steps):
        g = slope(value, x, 1e-2)
        path.append((x, value(x)))
        x = np.clip(x + g * (1.0 / (g.std() + 1e-8)), 0.0, 255.0)
    return [*path, (x, value(x))]


def yosinski(value, x, mean, steps, rate, decay, sigma, every, small_norm=0.0, small_contribution=0.0):
    """The deep visualization toolbox: pixels less the mean, in the order of its own loop."""
    path, x = [], x - mean
    for step in range(steps):
        x = np.clip(x + mean, 0, 255) - mean
        g = slope(lambda z: value(z + mean), x, 1e-2)
        path.append((x + mean, value(x + mean)))
        x = x + rate * g
        x = x * (1 - decay)
        if sigma and step % every == 0:
            x = np.stack([gaussian_filter(plane, sigma) for plane in x])
        if small_norm:
            norms = np.sqrt((x**2).sum(axis=0))
            x = x * ~(norms < np.percentile(norms, small_norm))
        if small_contribution:
            benefit = np.abs((g * -x).sum(axis=0))
            x = x * ~(benefit < np.percentile(benefit, small_contribution))
    return [*path, (np.clip(x + mean, 0, 255), np.nan)]


def lucid_image(theta, size):
    """param.image(fft=True, decorrelate=True, sigmoid=True) of coefficients [2, C, H, columns], 0 to 1."""
    height, width = size
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.fftfreq(width)[: width // 2 + (2 if width % 2 else 1)]
    freqs = np.sqrt(fx * fx + fy * fy)
    scale = 1.0 / np.maximum(freqs, 1.0 / max(width, height))
    scale *= np.sqrt(width * height)
    picture = np.fft.irfft2(scale * (theta[0] + 1j * theta[1]), axes=(1, 2))
    picture = picture[:, :height, :width] / 4.0
    if len(picture) == 3:
        root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
        root = root / np.max(np.linalg.norm(root, axis=0))
        picture = (picture.reshape(3, -1).T @ root.T).T.reshape(picture.shape)
    return 1 / (1 + np.exp(-picture))


def lucid_seen(picture, rng):
    """standard_transforms on [C, H, W] of 0 to 1: pad 12, jitter 8, scale, rotate, jitter 4."""
    picture = np.pad(picture, ((0, 0), (12, 12), (12, 12)), constant_values=0.5)
    picture = _jitter(picture, 8, rng)
    factor = [1 + (i - 5) / 50.0 for i in range(11)][rng.integers(11)]
    height, width = (int(factor * side + 1e-6) for side in picture.shape[1:])
    picture = _resize_bilinear(picture, height, width)
    angles = [*range(-10, 11), 0, 0, 0, 0, 0]
    picture = _rotate(picture, 3.14 * angles[rng.integers(len(angles))] / 180.0)
    return _jitter(picture, 4, rng)


def lucid(value, theta, size, steps, seeds):
    """Adam(0.05) of TensorFlow 1 on the coefficients; `value` takes pixels of 0 to 255."""
    m, v, path = np.zeros_like(theta), np.zeros_like(theta), []
    for step in range(steps):

        def objective(z, step=step):
            return value(255 * lucid_seen(lucid_image(z, size), np.random.default_rng([*seeds, step])))

        g = slope(objective, theta, 1e-4)
        path.append((255 * lucid_image(theta, size), objective(theta)))
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        rate = 0.05 * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        theta = theta + rate * m / (np.sqrt(v) + 1e-8)
    return [*path, (255 * lucid_image(theta, size), np.nan)]


def maco_image(phase, magnitude):
    """maco_image_parametrization of phases [C, H, columns], 0 to 1."""
    phase = phase - np.mean(phase)
    phase = phase / (np.std(phase) + 1e-5)
    picture = np.fft.irfft2(np.cos(phase) * magnitude + 1j * np.sin(phase) * magnitude, axes=(1, 2))
    picture = picture - np.mean(picture)
    picture = picture / (np.std(picture) + 1e-5)
    if len(picture) == 3:
        table = np.array(
            [
                [0.56282854, 0.58447580, 0.58447580],
                [0.19482528, 0.0, -0.19482528],
                [0.04329450, -0.10823626, 0.06494176],
            ]
        )
        picture = (picture.reshape(3, -1).T @ table).T.reshape(picture.shape)
    return 1 / (1 + np.exp(-picture))


def maco_crops(picture, rng, count, side, out):
    """crop_and_resize of random squares of [C, H, W] in the range -1 to 1, with noise of 0.08."""
    first = 0.5 + 0.15 * rng.standard_normal(count)
    second = 0.5 + 0.15 * rng.standard_normal(count)
    sides = np.clip(side + 0.05 * rng.standard_normal(count), 0.05, 1.0)
    noise = 0.08 * rng.standard_normal((count, len(picture), *out), np.float32).astype(np.float64)
    noise += 0.08 * (rng.random((count, len(picture), *out), np.float32).astype(np.float64) - 0.5)
    crops = np.zeros((count, len(picture), *out))
    for n in range(count):
        top, left = first[n] - sides[n] / 2, second[n] - sides[n] / 2
        bottom, right = first[n] + sides[n] / 2, second[n] + sides[n] / 2
        i, j = np.arange(out[0])[:, None], np.arange(out[1])[None, :]
        y = (top * (picture.shape[1] - 1)) + i * (bottom - top) * (picture.shape[1] - 1) / (out[0] - 1)
        x = (left * (picture.shape[2] - 1)) + j * (right - left) * (picture.shape[2] - 1) / (out[1] - 1)
        inside = (y >= 0) & (y <= picture.shape[1] - 1) & (x >= 0) & (x <= picture.shape[2] - 1)
        crops[n] = np.where(inside, _between(picture, y, x), 0)
    return crops + noise


def maco(value, phase, magnitude, steps, seeds, count, out, all_steps):
    """Nadam(1.0) of Keras on the phases; `value` takes pixels of 0 to 255; also the transparency."""
    m, v, momenta, path = np.zeros_like(phase), np.zeros_like(phase), 1.0, []
    transparency = np.zeros((phase.shape[0], phase.shape[1], 2 * (phase.shape[2] - 1)))
    for step in range(steps):
        side = np.linspace(0.5, 0.05, all_steps)[step]

        def of_picture(picture, step=step, side=side):
            rng = np.random.default_rng([*seeds, step])
            crops = maco_crops(2 * picture - 1, rng, count, side, out)
            return np.mean([value((crop + 1) / 2 * 255) for crop in crops])

        g = slope(lambda z: of_picture(maco_image(z, magnitude)), phase, 1e-4)
        picture = maco_image(phase, magnitude)
        path.append((255 * picture, of_picture(picture)))
        transparency += np.abs(slope(of_picture, picture, 1e-5)) / 255
        t = step + 1
        now = 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))
        then = 0.9 * (1 - 0.5 * 0.96 ** (0.004 * (t + 1)))
        momenta *= now
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        ahead = (1 - now) * g / (1 - momenta) + then * m / (1 - momenta * then)
        phase = phase + ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
    return [*path, (255 * maco_image(phase, magnitude), np.nan)], transparency


def deepdream(value, picture, steps, octaves, seeds):
    """The notebook of Google: four octaves, each going on from the details of the last."""
    bases = [picture]
    for _ in range(octaves - 1):
        height, width = bases[-1].shape[1:]
        size = (max(1, round(height / 1.4)), max(1, round(width / 1.4)))
        bases.append(zoom(bases[-1], (1, size[0] / height, size[1] / width), order=1))
    values, detail = [], np.zeros_like(bases[-1])
    for octave, base in enumerate(bases[::-1]):
        if detail.shape != base.shape:
            factors = [new / old for new, old in zip(base.shape, detail.shape, strict=True)]
            detail = zoom(detail, factors, order=1)
        x = base + detail
        for step in range(steps):
            rng = np.random.default_rng([*seeds, octave * steps + step])
            shift = [int(rng.integers(-32, 33)) for _ in range(2)]
            x = np.roll(x, shift, axis=(1, 2))
            g = slope(value, x, 1e-2)
            values.append(value(x))
            x = x + 1.5 / np.abs(g).mean() * g
            x = np.clip(np.roll(x, [-one for one in shift], axis=(1, 2)), 0, 255)
        detail = x - base
    return x, values


def _jitter(picture, cut, rng):
    top, left = int(rng.integers(cut + 1)), int(rng.integers(cut + 1))
    height, width = picture.shape[1:]
    return picture[:, top : top + height - cut, left : left + width - cut]


def _resize_bilinear(picture, height, width):
    """tf.compat.v1.image.resize_bilinear: no half pixels, corners not aligned."""
    y = np.arange(height) * picture.shape[1] / height
    x = np.arange(width) * picture.shape[2] / width
    return _between(picture, y[:, None], x[None, :])


def _rotate(picture, angle):
    """tfa.image.rotate: nearest, zeros outside."""
    _, height, width = picture.shape
    cos, sin = math.cos(angle), math.sin(angle)
    x_offset = ((width - 1) - (cos * (width - 1) - sin * (height - 1))) / 2
    y_offset = ((height - 1) - (sin * (width - 1) + cos * (height - 1))) / 2
    y, x = np.mgrid[:height, :width]
    column = np.floor(cos * x - sin * y + x_offset + 0.5).astype(int)
    row = np.floor(sin * x + cos * y + y_offset + 0.5).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return picture[:, row.clip(0, height - 1), column.clip(0, width - 1)] * inside


def _between(picture, y, x):
    """Bilinear at (y, x), beyond the last pixel that pixel."""
    height, width = picture.shape[1:]
    y0 = np.floor(y).astype(int).clip(0, height - 1)
    x0 = np.floor(x).astype(int).clip(0, width - 1)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    dy, dx = y - y0, x - x0
    top = picture[:, y0, x0] * (1 - dx) + picture[:, y0, x1] * dx
    bottom = picture[:, y1, x0] * (1 - dx) + picture[:, y1, x1] * dx
    return top * (1 - dy) + bottom * dy
