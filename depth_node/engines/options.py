"""The command-line options that choose a network and what runs it, as the parameters do."""

from __future__ import annotations

import argparse
from dataclasses import fields

from depth_node.parameter import KEY
from depth_node.parameters import ModelSettings

_PARAMETERS = {"model": "name"}  # every other option is called as its parameter is


def add_model_arguments(parser: argparse.ArgumentParser, *options: str, **defaults: str) -> None:
    """Define options that stand for the parameters `model.*`, with their texts and choices.

    Args:
        parser: gets the options.
        options: of `model`, `engine`, `precision`, `size`, `threads`.
        defaults: by option, where the default is another than the parameter's.
    """
    known = {field.name: field for field in fields(ModelSettings)}
    for option in options:
        field = known[_PARAMETERS.get(option, option)]
        definition, default = field.metadata[KEY], defaults.get(option, field.default)
        parser.add_argument(
            f"--{option}",
            default=default,
            type=type(field.default),
            choices=definition.get("choices"),
            help=f"{definition['description']} (default: {default})".replace("%", "%%"),
        )


def model_settings(args: argparse.Namespace) -> ModelSettings:
    """The settings that the options of `add_model_arguments` ask for."""
    options = ("model", "engine", "precision", "size", "threads")
    given = {o: getattr(args, o) for o in options if hasattr(args, o)}
    return ModelSettings(**{_PARAMETERS.get(option, option): v for option, v in given.items()})
