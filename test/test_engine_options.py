"""The options of the commands that stand for the node's parameters of the network."""

from __future__ import annotations

import argparse

import pytest

from depth_node.engines.options import add_model_arguments, model_settings
from depth_node.parameters import ModelSettings


def parse(*words: str, **defaults: str) -> ModelSettings:
    parser = argparse.ArgumentParser()
    add_model_arguments(parser, "model", "engine", "precision", "size", "threads", **defaults)
    return model_settings(parser.parse_args(words))


def test_without_options_the_parameters_defaults_hold():
    assert parse() == ModelSettings()
    assert parse(precision="fp32") == ModelSettings(precision="fp32")


def test_every_option_reaches_its_parameter():
    what = ["--model", "a.onnx", "--size", "518"]
    how = ["--engine", "openvino", "--precision", "bf16", "--threads", "3"]
    assert parse(*what, *how) == ModelSettings("a.onnx", "openvino", "bf16", "518", threads=3)


def test_what_the_node_would_refuse_is_refused(capsys):
    with pytest.raises(SystemExit):
        parse("--engine", "openvin")
    assert "invalid choice: 'openvin'" in capsys.readouterr().err
