"""A subscription that takes the type and the reliability that a topic is published with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node

from depth_node.ros.qos import input_qos, offered_reliability

SILENCE_S = 2.0
"""A topic counts as silent when so long after a subscription, or a message, none has come."""


class FollowedTopic:
    """Subscribes once somebody publishes, and anew when the type or the reliability changes.

    Attributes:
        topic: the resolved name.
        refused_type: the type that the topic is published with when it is none of the accepted
            ones, else empty.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        kinds: Sequence[type[Any]],
        on_message: Callable[[Any], None],
        *,
        depth: int,
    ) -> None:
        """Resolve the topic; nothing is subscribed to before `look`.

        Args:
            node: the node that subscribes.
            topic: its name.
            kinds: the accepted message types, the preferred one first.
            on_message: called with every message, on the executor's thread.
            depth: messages that may wait for the executor.
        """
        self.topic: str = node.resolve_topic_name(topic)
        self.refused_type = ""
        self._node = node
        self._kinds = {_type_name(kind): kind for kind in kinds}
        self._on_message = on_message
        self._depth = depth
        self._choice: tuple[str, Any] | None = None
        self._subscription: Any = None
        self._since_ns: int | None = None

    @property
    def published(self) -> bool:
        """Whether somebody publishes the topic with an accepted type."""
        return self._choice is not None

    def too_early(self, received_ns: int) -> bool:
        """Whether nothing can be said yet of what was there at a time (`time.monotonic_ns()`).

        Publishers are discovered, and a message comes, only some time after the subscription.
        """
        since_ns = self._since_ns
        return since_ns is None or received_ns < since_ns + SILENCE_S * 1e9

    def look(self) -> None:
        """Follow the graph: who publishes the topic now, and how?"""
        if self._since_ns is None:
            self._since_ns = time.monotonic_ns()
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        types = {info.topic_type for info in publishers}
        wanted = next((name for name in self._kinds if name in types), None)
        self.refused_type = "" if wanted or not types else sorted(types)[0]
        if wanted is None:
            self._unsubscribe()
            return
        offers = [info for info in publishers if info.topic_type == wanted]
        choice = (wanted, offered_reliability(offers))
        if choice == self._choice:
            return
        self._unsubscribe()
        self._subscription = self._node.create_subscription(
            self._kinds[wanted], self.topic, self._on_message, input_qos(choice[1], self._depth)
        )
        self._choice = choice
        self._since_ns = time.monotonic_ns()

    def close(self) -> None:
        """Unsubscribe; `look` may subscribe again."""
        self._unsubscribe()
        self._since_ns = None

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._choice = None

    def expected(self) -> str:
        """The accepted types in words."""
        return " or ".join(self._kinds)


def _type_name(kind: type[Any]) -> str:
    """`sensor_msgs/msg/Range` of the class; generated classes live in `sensor_msgs.msg._range`."""
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"
