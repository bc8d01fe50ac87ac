"""What an image topic's name and publishers say of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from depth_node.ros.image_topic import ImageOffer, image_offer, is_rectified

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


@pytest.mark.parametrize(
    ("name", "rectified"),
    [
        ("/left/image_rect", True),
        ("/left/image_rect_color", True),
        ("/rgb/imageRectified", True),
        ("/camera/rect0/compressed", True),
        ("/rect/image_raw", False),
        ("/camera/image_direct", False),
        ("/camera/corrected", False),
    ],
)
def test_a_topic_is_rectified_where_a_word_of_its_name_says_so(name: str, rectified: bool) -> None:
    assert is_rectified(name) == rectified


class Publishers:
    """A graph in which these topics are published with such a type and reliability."""

    def __init__(self, *published: tuple[str, str, ReliabilityPolicy]) -> None:
        self._published = published

    def get_publishers_info_by_topic(self, topic: str) -> list[Any]:
        return [
            SimpleNamespace(
                topic_type=f"sensor_msgs/msg/{kind}",
                qos_profile=SimpleNamespace(reliability=reliability),
            )
            for name, kind, reliability in self._published
            if name == topic
        ]


RAW, DEAF = ("/image", "Image", RELIABLE), ("/image", "Image", BEST_EFFORT)
PACKED = ("/image/compressed", "CompressedImage", RELIABLE)


@pytest.mark.parametrize(
    ("published", "transport", "offer"),
    [
        ((RAW, PACKED), "auto", ImageOffer("/image", Image, RELIABLE)),
        ((RAW, DEAF), "auto", ImageOffer("/image", Image, BEST_EFFORT)),
        ((RAW, PACKED), "compressed", ImageOffer(PACKED[0], CompressedImage, RELIABLE)),
        ((PACKED,), "auto", ImageOffer(PACKED[0], CompressedImage, RELIABLE)),
        ((PACKED,), "raw", None),
        ((("/image", "Imu", RELIABLE),), "auto", None),
        (
            (("/image", "CompressedImage", RELIABLE), ("/image", "Imu", BEST_EFFORT)),
            "auto",
            ImageOffer("/image", CompressedImage, RELIABLE),
        ),
    ],
)
def test_an_image_is_taken_as_it_is_published(
    published: tuple[Any, ...], transport: str, offer: ImageOffer | None
) -> None:
    assert image_offer(Publishers(*published), "/image", transport) == offer
