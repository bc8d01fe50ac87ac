"""Options that several evaluations share, and what they open."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Protocol, TypeVar

from depth_node.engines.base import Engine
from depth_node.engines.options import add_model_arguments, model_settings
from depth_node.engines.select import load_engine

Item_co = TypeVar("Item_co", covariant=True)


class Series(Protocol[Item_co]):
    """What can be counted and gone through more than once."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __iter__(self) -> Iterator[Item_co]:
        """One after the other."""
        ...


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Define which network is measured and how the result is printed."""
    add_model_arguments(parser, "model", "engine", "size")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_depth_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Define what the depth images hold and which of it counts."""
    parser.add_argument(
        "--depth-scale", type=float, default=1000.0, help="stored units in a metre (1000)"
    )
    parser.add_argument(
        "--range",
        type=float,
        nargs=2,
        default=(1e-3, 10.0),
        metavar=("LO", "HI"),
        help="metres (0.001 10)",
    )


def open_engine(args: argparse.Namespace) -> closing[Engine]:
    """Load the network that the options name; use it in a `with` statement.

    Raises:
        EngineError, ModelError: there is no such network, or nothing can run it.
    """
    return closing(load_engine(model_settings(args), lambda line: print(line, file=sys.stderr)))


def with_progress(series: Series[Item_co]) -> Iterator[Item_co]:
    """Go through a series with a progress bar where a person watches."""
    from tqdm import tqdm

    yield from tqdm(
        series, total=len(series), desc="Evaluating", unit="frame", disable=None, delay=0.5
    )
