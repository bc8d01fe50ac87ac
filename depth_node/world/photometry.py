"""From radiance to what a camera delivers: exposure, white balance, blur, noise, JPEG."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from depth_node.types import ArrayF32, ImageU8


@dataclass(frozen=True)
class Photometry:
    """How a camera turns linear radiance into bytes.

    Attributes:
        exposure: factor on the automatic exposure.
        white: RGB gains.
        saturation: 1 leaves colours as they are, 0 is grey.
        vignette: darkening in the corners, 0 to 1.
        lens_blur: Gaussian sigma in pixels at a width of 160 pixels.
        motion: (dx, dy) motion blur in pixels at a width of 160 pixels.
        noise: standard deviation of the noise at mid-grey, in grey levels.
        contrast: strength of the film-like tone curve, 0 to 1.
        jpeg: JPEG quality, 0 for none.
    """

    exposure: float = 1.0
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    vignette: float = 0.1
    lens_blur: float = 0.0
    motion: tuple[float, float] = (0.0, 0.0)
    noise: float = 1.5
    contrast: float = 0.3
    jpeg: int = 0


MILD = Photometry()


def draw(rng: np.random.Generator) -> Photometry:
    """A random camera, from good to poor."""
    white = np.exp(rng.normal(0, 0.12, 3))
    if rng.random() < 0.1:  # a camera with a strong cast
        white *= np.exp(rng.normal(0, 0.35, 3))
    motion = rng.normal(0, 1.2, 2) if rng.random() < 0.25 else np.zeros(2)
    camera = Photometry(
        exposure=float(np.exp(rng.normal(0, 0.35))),
        white=(float(white[0]), float(white[1]), float(white[2])),
        saturation=rng.uniform(0.4, 1.5),
        vignette=float(rng.choice([0.0, rng.uniform(0, 0.6)])),
        lens_blur=float(abs(rng.normal(0, 0.45))),
        motion=(float(motion[0]), float(motion[1])),
        noise=float(np.exp(rng.uniform(np.log(0.5), np.log(9)))),
        contrast=rng.uniform(0, 1),
        jpeg=int(rng.integers(40, 96)) if rng.random() < 0.5 else 0,
    )
    if rng.random() < 0.05:
        camera = replace(camera, saturation=0.0)
    return camera


def develop(radiance: ArrayF32, camera: Photometry, rng: np.random.Generator) -> ImageU8:
    """Develop linear radiance.

    Args:
        radiance: HxWx3 float32 linear RGB.
        camera: how.
        rng: draws the noise.

    Returns:
        HxWx3 uint8 RGB (sRGB-like).
    """
    height, width = radiance.shape[:2]
    luminance = radiance[::4, ::4] @ np.array([0.25, 0.6, 0.15], np.float32)
    key = float(np.percentile(np.minimum(luminance, 50.0), 70)) + 1e-3
    gain = np.array(camera.white, np.float32) * np.float32(0.38 * camera.exposure / key)
    image = radiance * gain
    unit = width / 160.0
    if camera.lens_blur * unit > 0.25:
        image = cv2.GaussianBlur(image, (0, 0), camera.lens_blur * unit)
    if max(map(abs, camera.motion)) * unit > 0.7:
        image = cv2.filter2D(image, -1, _streak(camera.motion[0] * unit, camera.motion[1] * unit))
    if camera.vignette > 0:
        image = image * _falloff(height, width, camera.vignette)[..., None]
    image = np.minimum(image, np.float32(4.0))
    soft = image * (1 + image / 6) / (1 + image)  # shoulder: bright parts fade into white
    image = image + np.float32(camera.contrast) * (1.25 * soft - image)
    image = np.sqrt(np.clip(image, 0, 1)) * np.float32(255)
    if camera.saturation != 1:
        grey = (image @ np.array([0.3, 0.59, 0.11], np.float32))[..., None]
        image = grey + np.float32(camera.saturation) * (image - grey)
    if camera.noise > 0:
        grain = rng.standard_normal(image.shape, np.float32)
        image = image + grain * np.float32(camera.noise)
    out = np.clip(image, 0, 255).astype(np.uint8)
    if camera.jpeg:
        _, packed = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, camera.jpeg])
        out = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return out


def _streak(dx: float, dy: float) -> ArrayF32:
    reach = int(np.ceil(max(abs(dx), abs(dy)))) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    start = (round(reach - dx / 2), round(reach - dy / 2))
    end = (round(reach + dx / 2), round(reach + dy / 2))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _falloff(height: int, width: int, strength: float) -> ArrayF32:
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    return np.asarray(1 - np.float32(strength) * 0.5 * (x * x + y * y), np.float32)
