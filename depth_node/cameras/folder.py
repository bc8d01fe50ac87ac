"""A folder of images as a recording."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from depth_node.cameras.base import CameraError
from depth_node.cameras.images import is_whole_jpeg, to_rgb
from depth_node.types import ImageU8

DEFAULT_RATE_HZ = 10.0
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "bmp",
        "jp2",
        "jpeg",
        "jpg",
        "pbm",
        "pgm",
        "png",
        "pnm",
        "ppm",
        "tif",
        "tiff",
        "webp",
    )
)
_NAMED_AT_MOST = 5


class ImageFolder:
    """The images of a folder in natural order (2 before 10); a `Recording`.

    Images may differ in size. 16-bit grey PNGs that lie among other images are taken for depth
    maps and left out. What cannot be decoded is skipped and told in `notices`.

    Args:
        path: the folder, or a pattern for the files in one, such as `run1/*.color.jpg`.

    Raises:
        CameraError: there is no such folder, or no image in it.
    """

    def __init__(self, path: str | Path) -> None:
        given = Path(path).expanduser()
        by_pattern = any(c in given.name for c in "*?[") and not given.is_dir()
        self._folder, pattern = (given.parent, given.name) if by_pattern else (given, "*")
        self._notices: tuple[str, ...] = ()
        self._unreadable: set[Path] = set()
        if not self._folder.is_dir():
            kind = "is a file" if self._folder.is_file() else "does not exist"
            raise CameraError(
                f"{self._folder} {kind}; camera.path must name a folder of images (a video has "
                "camera.source video)"
            )
        self._files = self._images(pattern)
        self._index = 0
        self._given = 0
        self._name = f"{len(self._files)} images of {given}"

    @property
    def name(self) -> str:
        """See `Recording`."""
        return self._name

    @property
    def files(self) -> tuple[Path, ...]:
        """The images, in their order; some may turn out not to be decodable."""
        return tuple(self._files)

    @property
    def rate_hz(self) -> float:
        """See `Recording`."""
        return DEFAULT_RATE_HZ

    @property
    def notices(self) -> tuple[str, ...]:
        """See `Recording`."""
        return self._notices

    def next_image(self) -> ImageU8 | None:
        """See `Recording`; images that cannot be decoded are skipped.

        Raises:
            CameraError: not one image of the folder could be decoded.
        """
        while self._index < len(self._files):
            file = self._files[self._index]
            self._index += 1
            image = decode_image(file)
            if image is not None:
                self._given += 1
                return image
            self._note_unreadable(file)
        if self._given == 0:
            raise CameraError(
                f"none of the {len(self._files)} images in {self._folder} can be decoded (the "
                f"first is {self._files[0].name})"
            )
        return None

    def rewind(self) -> None:
        """See `Recording`."""
        self._index = self._given = 0

    def close(self) -> None:
        """See `Recording`; a folder holds nothing open."""

    def _images(self, pattern: str) -> list[Path]:
        entries = sorted(self._folder.glob(pattern), key=_natural)
        images = [
            f
            for f in entries
            if f.suffix.lower() in SUFFIXES and f.is_file() and not f.name.startswith(".")
        ]
        if not images:
            raise CameraError(
                f"there is no image in {self._folder / pattern}; seen: {_seen(entries)}"
            )
        depth_maps = {f for f in images if _is_grey_16_bit_png(f)}
        if not depth_maps or len(depth_maps) == len(images):
            return images
        self._notices += (
            f"{len(depth_maps)} grey 16-bit PNGs of {self._folder} are left out as depth maps, "
            f"such as {min(depth_maps, key=_natural).name}; a pattern of only them takes them",
        )
        return [f for f in images if f not in depth_maps]

    def _note_unreadable(self, file: Path) -> None:
        if file in self._unreadable:
            return
        self._unreadable.add(file)
        if len(self._unreadable) <= _NAMED_AT_MOST:
            self._notices += (f"{file} cannot be decoded as an image and is skipped",)
        elif len(self._unreadable) == _NAMED_AT_MOST + 1:
            self._notices += (f"more images in {self._folder} cannot be decoded and are skipped",)


def decode_image(file: Path) -> ImageU8 | None:
    """Read an image file as HxWx3 uint8 RGB; None when it cannot be decoded whole."""
    try:
        data = file.read_bytes()
        if not data or not is_whole_jpeg(data):
            return None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # gone, forbidden, or of a size beyond OpenCV's limits
        return None
    return None if image is None else to_rgb(image)


def _natural(file: Path) -> list[tuple[int, int, str]]:
    """Sort key in which the digits of a name count as a number."""
    parts = re.split(r"(\d+)", file.name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def _is_grey_16_bit_png(file: Path) -> bool:
    """Look into the PNG header (IHDR: bit depth is byte 24, colour type byte 25, 0 is grey)."""
    if file.suffix.lower() != ".png":
        return False
    try:
        with file.open("rb") as stream:
            header = stream.read(26)
    except OSError:  # what cannot be read is told when its turn comes
        return False
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[24:26] == bytes([16, 0])


def _seen(entries: list[Path]) -> str:
    """What a folder without images has instead, for the error."""
    folders = [e for e in entries if e.is_dir()]
    suffixes = Counter(e.suffix.lower() or "no suffix" for e in entries if not e.is_dir())
    parts = [f"{count} x {suffix}" for suffix, count in suffixes.most_common(_NAMED_AT_MOST)]
    if folders:
        names = ", ".join(f.name for f in folders[:_NAMED_AT_MOST])
        parts.append(f"{len(folders)} folders ({names}); name one of them")
    return ", ".join(parts) or "nothing"
