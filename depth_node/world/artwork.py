"""Drawn textures that fill one face: posters, pages, screens, book spines, windows, doors."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from depth_node.types import ImageU8

SIZE = 256


def _blank(mix: int = 0, third: int = 0, shade: int = 128) -> ImageU8:
    return np.full((SIZE, SIZE, 3), (mix, third, shade), np.uint8)


def _box(
    image: ImageU8, x0: float, y0: float, x1: float, y1: float, value: tuple[int, int, int]
) -> None:
    corners = [round(v * SIZE) for v in (x0, y0, x1, y1)]
    cv2.rectangle(image, (corners[0], corners[1]), (corners[2] - 1, corners[3] - 1), value, -1)


def _value(rng: np.random.Generator) -> tuple[int, int, int]:
    mix, third = rng.choice([0, 60, 128, 255], 2)
    return int(mix), int(third * (rng.random() < 0.4)), int(rng.integers(90, 160))


def _text(
    rng: np.random.Generator, image: ImageU8, x0: float, y0: float, x1: float, y1: float
) -> None:
    """Lines of word-like dashes."""
    pitch = rng.uniform(0.025, 0.06)
    y = y0
    while y + pitch < y1:
        x = x0
        end = x1 - (x1 - x0) * float(rng.choice([0, 0, 0.1, 0.5]))
        while x < end:
            word = rng.uniform(0.02, 0.1)
            _box(image, x, y, min(x + word, end), y + 0.55 * pitch, (255, 0, 128))
            x += word + 0.35 * pitch
        y += pitch


def _page(rng: np.random.Generator) -> ImageU8:
    image = _blank()
    _box(image, 0.1, 0.06, rng.uniform(0.4, 0.9), 0.12, (255, 255 * int(rng.integers(2)), 128))
    _text(rng, image, 0.1, 0.18, 0.9, 0.95)
    if rng.random() < 0.5:
        x, y = rng.uniform(0.1, 0.4), rng.uniform(0.2, 0.5)
        _box(image, x, y, x + 0.5, y + 0.35, (120, 120, 140))
    return image


def _poster(rng: np.random.Generator) -> ImageU8:
    image = _blank(*_value(rng))
    for _ in range(int(rng.integers(3, 12))):
        centre = tuple(int(v) for v in rng.integers(0, SIZE, 2))
        size = int(rng.integers(8, 90))
        if rng.random() < 0.4:
            cv2.circle(image, centre, size, _value(rng), -1, cv2.LINE_AA)
        elif rng.random() < 0.5:
            corner = (centre[0] + size, centre[1] + int(rng.integers(8, 120)))
            cv2.rectangle(image, centre, corner, _value(rng), -1)
        else:
            points = rng.integers(0, SIZE, (int(rng.integers(3, 6)), 2)).astype(np.int32)
            cv2.fillPoly(image, [points], _value(rng), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        x, y = rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.7)
        _text(rng, image, x, y, x + 0.45, y + 0.25)
    return image


def _painting(rng: np.random.Generator) -> ImageU8:
    small = rng.integers(0, 256, (12, 12, 3)).astype(np.uint8)
    small[..., 1] //= 3
    small[..., 2] = 90 + small[..., 2] // 4
    image = np.array(cv2.resize(small, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC), np.uint8)
    horizon = int(rng.integers(80, 180))
    image[horizon:] = image[horizon:] // 2 + 30
    return image


def _books(rng: np.random.Generator) -> ImageU8:
    image = _blank(128, 0, 30)
    x = 0.0
    while x < 1.0:
        width = rng.uniform(0.02, 0.07)
        top = rng.uniform(0.0, 0.25)
        mix, third, shade = int(rng.integers(256)), int(rng.integers(256)), 128
        _box(image, x, top, x + width, 1.0, (mix, third, int(rng.integers(80, 170))))
        if rng.random() < 0.6:
            y = rng.uniform(0.3, 0.7)
            _box(image, x + 0.2 * width, y, x + 0.8 * width, y + 0.2, (255 - mix, 0, shade + 50))
        x += width + 0.004
    return image


def _screen(rng: np.random.Generator) -> ImageU8:
    image = _blank(40)
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(0, 0.6, 2)
        width, height = rng.uniform(0.25, 0.6, 2)
        _box(image, x, y, x + width, y + height, (int(rng.integers(256)), 0, 140))
        _box(image, x, y, x + width, y + 0.05, (255, 255, 128))
        _text(rng, image, x + 0.02, y + 0.08, min(x + width - 0.02, 1), min(y + height, 1))
    return image


def _window_cells(
    rng: np.random.Generator, columns: int, rows: int, fill: tuple[float, float]
) -> ImageU8:
    image = _blank(0, 0, 128)
    grime = rng.integers(0, 40, (16, 16)).astype(np.uint8)
    image[..., 0] = cv2.resize(grime, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    shutters = rng.random() < 0.3
    for row in range(rows):
        for column in range(columns):
            x0 = (column + 0.5 - fill[0] / 2) / columns
            x1 = (column + 0.5 + fill[0] / 2) / columns
            y0, y1 = (row + 0.5 - fill[1] / 2) / rows, (row + 0.5 + fill[1] / 2) / rows
            _box(image, x0 - 0.008, y0 - 0.008, x1 + 0.008, y1 + 0.012, (0, 255, 150))
            _box(image, x0, y0, x1, y1, (255, 0, int(rng.integers(60, 150))))
            middle = 0.5 * (x0 + x1)
            _box(image, middle - 0.004, y0, middle + 0.004, y1, (0, 255, 140))
            if rng.random() < 0.3:
                _box(image, x0, y0, x1, y0 + rng.uniform(0.2, 0.9) * (y1 - y0), (120, 120, 140))
            if shutters:
                wing = 0.3 * (x1 - x0)
                _box(image, x0 - wing, y0, x0 - 0.008, y1, (60, 200, 110))
                _box(image, x1 + 0.008, y0, x1 + wing, y1, (60, 200, 110))
    return image


def _facade(rng: np.random.Generator) -> ImageU8:
    columns, rows = int(rng.integers(3, 7)), int(rng.integers(2, 5))
    fill = (rng.uniform(0.3, 0.6), rng.uniform(0.45, 0.75))
    return _window_cells(rng, columns, rows, fill)


def _curtain_wall(rng: np.random.Generator) -> ImageU8:
    columns, rows = int(rng.integers(4, 10)), int(rng.integers(3, 8))
    return _window_cells(rng, columns, rows, (0.9, rng.uniform(0.7, 0.92)))


def _door(rng: np.random.Generator) -> ImageU8:
    image = _blank(30, 0, 128)
    streaks = rng.integers(0, 60, (SIZE, 4)).astype(np.uint8)
    image[..., 0] = cv2.resize(streaks, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR).T
    columns, rows = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    for row in range(rows if rng.random() < 0.6 else 0):
        for column in range(columns):
            x0, y0 = 0.12 + 0.8 * column / columns, 0.06 + 0.9 * row / rows
            x1, y1 = x0 + 0.8 / columns - 0.08, y0 + 0.9 / rows - 0.06
            _box(image, x0, y0, x1, y1, (60, 0, 95))
            _box(image, x0 + 0.015, y0 + 0.01, x1, y1, (40, 0, 150))
            _box(image, x0 + 0.02, y0 + 0.015, x1 - 0.02, y1 - 0.015, (50, 0, 125))
    return image


def _diagram(rng: np.random.Generator) -> ImageU8:
    image = _blank(int(rng.integers(60)))
    for _ in range(int(rng.integers(6, 30))):
        points = rng.integers(0, SIZE, (int(rng.integers(2, 7)), 1, 2)).astype(np.int32)
        closed = bool(rng.random() < 0.3)
        cv2.polylines(image, [points], closed, _value(rng), int(rng.integers(1, 6)), cv2.LINE_AA)
    return image


def _keys(rng: np.random.Generator) -> ImageU8:
    image = _blank(255)
    columns, rows = int(rng.integers(8, 16)), int(rng.integers(4, 7))
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.1) / columns, (row + 0.1) / rows
            _box(image, x, y, x + 0.8 / columns, y + 0.8 / rows, (40, 0, 128))
    return image


def _panel(rng: np.random.Generator) -> ImageU8:
    """Cabinet fronts: rectangles with grooves and handles."""
    image = _blank()
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    for row in range(rows):
        for column in range(columns):
            x0, y0, x1, y1 = column / columns, row / rows, (column + 1) / columns, (row + 1) / rows
            _box(image, x0, y0, x1, y1, (0, 200, 60))
            shade = int(rng.integers(115, 140))
            _box(image, x0 + 0.01, y0 + 0.01, x1 - 0.01, y1 - 0.01, (20, 0, shade))
            xc, yc = 0.5 * (x0 + x1), y0 + 0.12 * (y1 - y0)
            _box(image, xc - 0.05, yc, xc + 0.05, yc + 0.02, (255, 0, 150))
    return image


def _sign(rng: np.random.Generator) -> ImageU8:
    image = _blank(0)
    centre = (SIZE // 2, SIZE // 2)
    if rng.random() < 0.5:
        cv2.circle(image, centre, 110, (255, 0, 128), 28, cv2.LINE_AA)
    else:
        _box(image, 0.04, 0.04, 0.96, 0.96, (255, 0, 128))
        _box(image, 0.1, 0.1, 0.9, 0.9, (0, 0, 128))
    _text(rng, image, 0.25, 0.35, 0.75, 0.65)
    cv2.line(image, (70, 190), (190, 70), (0, 255, 100), int(rng.integers(4, 24)), cv2.LINE_AA)
    return image


DRAWN: dict[str, tuple[Callable[[np.random.Generator], ImageU8], int]] = {
    "page": (_page, 3),
    "poster": (_poster, 8),
    "painting": (_painting, 3),
    "books": (_books, 4),
    "screen": (_screen, 3),
    "facade": (_facade, 6),
    "curtain_wall": (_curtain_wall, 3),
    "door": (_door, 4),
    "diagram": (_diagram, 3),
    "keys": (_keys, 1),
    "panel": (_panel, 4),
    "sign": (_sign, 3),
}
