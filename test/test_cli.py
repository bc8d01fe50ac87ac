"""The command line: quick help, one module a command, messages instead of traces."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from depth_node import __version__, cli
from depth_node.parameters import ParameterError, describe

Install = Callable[[Callable[[argparse.Namespace], int]], None]


def add_no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Makes a function the command `try`."""

    def make(run: Callable[[argparse.Namespace], int]) -> None:
        module = ModuleType("command_on_trial")
        vars(module).update(add_arguments=add_no_arguments, run=run)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(cli.COMMANDS, "try", (module.__name__, "try something"))

    return make


def test_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; from depth_node.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print('loaded', *{m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, loaded = done.stdout.rpartition("loaded")
    assert all(name in text for name in cli.COMMANDS)
    assert not {"numpy", "cv2", "rclpy", "yaml", "onnxruntime"} & set(loaded.split())


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_command_offers_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(cli.COMMANDS[name][0])
    assert callable(module.run)
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"depth-node {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"depth-node {__version__}\n"


def test_an_unknown_command_is_refused_with_the_known_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["dance"])
    assert ended.value.code == 2
    assert "parameters" in capsys.readouterr().err


def test_the_exit_code_is_the_commands(install: Install) -> None:
    def end(arguments: argparse.Namespace) -> int:
        return 3

    install(end)
    assert cli.main(["try"]) == 3


def test_an_error_of_the_package_is_one_line(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise ParameterError("depth.max_m is 0")

    install(fail)
    assert cli.main(["try"]) == 1
    assert capsys.readouterr().err == "depth-node try: depth.max_m is 0\n"


def test_a_bug_keeps_its_trace(install: Install) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError

    install(fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["try"])


@pytest.mark.parametrize("module", ["rclpy.node", "embreex"])
def test_a_missing_library_is_named_with_what_to_do(
    install: Install, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise ModuleNotFoundError(name=module)

    install(fail)
    assert cli.main(["try"]) == 1
    said = capsys.readouterr().err
    assert f"the Python module {module} is not installed; " in said
    assert "pip install " in said


def test_a_library_that_does_not_load_is_one_line_with_its_cure(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        raise ImportError("libGL.so.1: cannot open shared object file\nand more")

    install(fail)
    assert cli.main(["try"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("depth-node try: ")
    assert "libGL.so.1: cannot open shared object file; install that library" in message
    assert message.count("\n") == 1


def test_a_faulty_import_within_the_package_keeps_its_trace(install: Install) -> None:
    def fail(arguments: argparse.Namespace) -> int:
        from depth_node.types import nothing_of_this_name  # noqa: F401

        return 0

    install(fail)
    with pytest.raises(ImportError):
        cli.main(["try"])


def test_interruption_ends_without_a_trace(install: Install) -> None:
    def interrupt(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    install(interrupt)
    assert cli.main(["try"]) == 130


def test_parameters_prints_its_definitions_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["parameters", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in printed] == [p.name for p in describe()]


def test_bench_lists_its_scripts_and_refuses_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--json"]) == 0
    scripts = json.loads(capsys.readouterr().out)
    assert all(summary for summary in scripts.values()), "each script says what it measures"
    assert cli.main(["bench", "nothing"]) == 1
    assert "there is no bench/nothing.py" in capsys.readouterr().err
