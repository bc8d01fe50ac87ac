"""Choosing the engine: the first that works here and passes its self-test, and why not others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from depth_node.engines.base import Engine, EngineError, EngineUnavailable, TestedEngine
from depth_node.engines.cache import EngineCache, Verdict
from depth_node.engines.cpu import SMALL_BYTES
from depth_node.engines.selftest import SelfTest, reference
from depth_node.network.errors import ModelError
from depth_node.network.graph import Graph, read_graph
from depth_node.network.hub import check_weights, local_weights
from depth_node.network.registry import find_entry
from depth_node.network.resolve import ModelFiles, resolve_model
from depth_node.parameters import ModelSettings
from depth_node.resources import ResourceError

Log = Callable[[str], None]

PRECISIONS: dict[str, tuple[str, ...]] = {
    "tensorrt": ("fp16", "fp32"),
    "onnxruntime-tensorrt": ("fp16", "fp32"),
    "onnxruntime-cuda": ("fp16", "fp32"),
    "torch": ("fp16", "fp32"),
    "openvino": ("int8", "bf16", "fp32"),
    "onnxruntime": ("int8", "fp32"),
}
"""The engines that `auto` tries, best first, and their precisions, fastest first."""

_GRAPH_OF = {"bf16": "fp32"}  # a precision that the runtime makes of an fp32 graph
_BF16 = ("openvino", "torch")
"""The engines that can; the others would run an fp32 graph as it is."""
_PROGRESS_STEP = 0.1


@dataclass(frozen=True)
class Candidate:
    """An engine in one precision."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


_SLOW_IF_SMALL = Candidate("openvino", "fp32")
"""A few convolutions in fp32 take it 14 to 32% longer than ONNX Runtime; a transformer does not."""


def load_engine(settings: ModelSettings, log: Log) -> Engine:
    """Load the network of the settings into the best engine that works here.

    Args:
        settings: network, engine, precision and threads.
        log: takes one line a candidate: taken, or why not.

    Raises:
        EngineError: the network is not to be had, or no engine runs it.
    """
    try:
        files = resolve_model(settings, log)
        return load_files(files, settings, log)
    except (ModelError, ResourceError) as error:
        raise EngineError(str(error)) from error


def load_files(files: ModelFiles, settings: ModelSettings, log: Log) -> Engine:
    """Load a network's files into the best engine that works here; see `load_engine`."""
    loader = Loader(files, settings, EngineCache(log=log))
    refused: list[str] = []
    missing: set[str] = set()
    for candidate in candidates(settings, files, small=loader.small):
        if candidate.engine in missing:
            continue
        try:
            engine, verdict = _open_tested(loader, candidate)
        except EngineUnavailable as error:
            missing.add(candidate.engine)
            log(f"engine {candidate.engine}: not taken: {error}")
            refused.append(f"{candidate.engine}: {error}")
        except Exception as error:  # a runtime that does not fit its driver may raise anything
            reason = _reason(error)
            log(f"engine {candidate}: not taken: {reason}")
            refused.append(f"{candidate}: {reason}")
        else:
            log(
                f"engine {candidate}: taken, on {engine.device}; "
                f"differs from fp32 by {verdict.error:.2%} in its self-test"
            )
            loader.forget_graphs()
            return engine
    raise EngineError(f"no engine can run {files.name}: " + "; ".join(refused))


def _reason(error: Exception) -> str:
    """An error in words, with its type where it is none of this package's."""
    known = isinstance(error, (EngineError, ModelError))
    return str(error) if known else f"{type(error).__name__}: {error}"


def _open_tested(loader: Loader, candidate: Candidate) -> tuple[TestedEngine, Verdict]:
    engine = loader.open(candidate)
    try:
        verdict = loader.self_test.verdict(engine)
        if not verdict.passed:
            raise EngineError(f"its self-test failed: {verdict.reason}")
    except Exception:
        engine.close()
        raise
    return engine, verdict


def candidates(settings: ModelSettings, files: ModelFiles, *, small: bool) -> list[Candidate]:
    """What settings and files allow, in the order in which it is tried.

    An int8 graph is something that the user makes on purpose: where there is none, `auto` does
    not speak of it.

    Args:
        settings: engine and precision, or `auto`.
        files: the network's graphs.
        small: see `Loader.small`.
    """
    auto = settings.precision == "auto"
    allowed = [
        Candidate(engine, precision)
        for engine in (PRECISIONS if settings.engine == "auto" else (settings.engine,))
        for precision in (PRECISIONS[engine] if auto else (settings.precision,))
        if not (auto and precision == "int8" and "int8" not in files.graphs)
    ]
    return sorted(allowed, key=lambda candidate: small and candidate == _SLOW_IF_SMALL)


class Loader:
    """Opens candidates of one network; its graphs are read once while that lasts.

    Attributes:
        cache: where compiled engines are kept.
        self_test: what holds them to the network's fp32 graph.
    """

    def __init__(self, files: ModelFiles, settings: ModelSettings, cache: EngineCache) -> None:
        self.cache = cache
        self.self_test = SelfTest(cache, lambda: self.graph("fp32"), self._open_cpu)
        self._files = files
        self._threads = settings.threads
        self._allow_cpu = settings.engine == "torch"  # `auto` has faster engines for the CPU
        self._graphs: dict[str, Graph] = {}
        self._loading = True
        self._told = 0.0

    def graph(self, precision: str) -> Graph:
        """The network's graph for a precision.

        Raises:
            ModelError: there is none, or it cannot be read.
        """
        name = _GRAPH_OF.get(precision, precision)
        if name not in self._files.graphs:
            raise ModelError(
                f"{self._files.name} has no {name} graph; {self._files.how_to_make(name)}"
            )
        graph = self._graphs.get(name) or read_graph(self._files.graphs[name])
        if self._loading:
            self._graphs[name] = graph
        return graph

    @property
    def small(self) -> bool:
        """Whether the fp32 network is as small as the student.

        Raises:
            ModelError: it cannot be read.
        """
        return self.graph("fp32").size_bytes <= SMALL_BYTES

    def forget_graphs(self) -> None:
        """Free the memory of the graphs; fp32 is read again if a further size is tested."""
        self._loading = False
        self._graphs.clear()

    def open(self, candidate: Candidate) -> TestedEngine:
        """Open one candidate; compiled engines come from the cache where they are in it.

        Raises:
            EngineUnavailable: the engine's runtime or device is not here.
            EngineError: it cannot run this network in this precision.
            ModelError: there is no graph of this precision.
        """
        name, precision = candidate.engine, candidate.precision
        if precision == "bf16" and name not in _BF16:
            raise EngineError(f"it has no bf16; {' and '.join(_BF16)} have")
        if name == "tensorrt":
            from depth_node.engines.tensorrt import TensorRt

            TensorRt.require()  # before its graph: that it is missing is the better reason
            graph = self.graph(precision)
            reference(self.graph("fp32"), self._open_cpu)  # before minutes of compiling in vain
            return TensorRt(graph, self.cache, self._progress, self.self_test)
        if name == "openvino":
            from depth_node.engines.openvino import OpenVino

            return OpenVino(
                self.graph(precision), precision, self._threads, self.cache, self.self_test
            )
        if name == "onnxruntime":
            from depth_node.engines.ort import OnnxRuntimeCpu

            # In fp32 it is what the self-test would hold it to.
            self_test = None if precision == "fp32" else self.self_test
            return OnnxRuntimeCpu(self.graph(precision), self._threads, self_test)
        if name == "onnxruntime-tensorrt":
            from depth_node.engines.ort_tensorrt import OnnxRuntimeTensorRt

            OnnxRuntimeTensorRt.require()
            return OnnxRuntimeTensorRt(self.graph(precision), self.cache, self.self_test)
        if name == "onnxruntime-cuda":
            from depth_node.engines.ort_cuda import OnnxRuntimeCuda

            OnnxRuntimeCuda.require()
            return OnnxRuntimeCuda(self.graph(precision), self.self_test)
        return self._open_torch(precision)

    def _open_torch(self, precision: str) -> TestedEngine:
        from depth_node.engines.torch_engine import Torch

        try:
            entry = find_entry(self._files.name)
        except ModelError as error:
            raise EngineUnavailable(
                f"it runs networks of the registry, and {self._files.name} is only an ONNX graph"
            ) from error
        weights = local_weights(entry)
        if weights is None:
            raise EngineUnavailable(f"the weights of {entry.name} are not here")
        check_weights(entry, weights)
        return Torch(
            self.graph("fp32"), entry, weights, precision, self._threads, allow_cpu=self._allow_cpu
        )

    def _progress(self, phase: str, done: float) -> None:
        if done == 0.0 or done - self._told >= _PROGRESS_STEP:
            self._told = done
            self.cache.log(f"building the engine: {phase}, {done:.0%}")

    def _open_cpu(self, graph: Graph) -> Engine:
        """Open an fp32 graph for the self-test's reference.

        Raises:
            EngineError: neither runtime is here, or the one that is refuses the graph.
        """
        from depth_node.engines.openvino import OpenVino
        from depth_node.engines.ort import OnnxRuntimeCpu

        try:
            return OnnxRuntimeCpu(graph, self._threads)
        except EngineUnavailable as error:
            no_onnxruntime = error
        try:
            return OpenVino(graph, "fp32", self._threads, self.cache)
        except EngineUnavailable as error:
            # Not the reason of the engine that is tested: that one is here.
            raise EngineUnavailable(
                "its self-test needs onnxruntime or openvino on the CPU "
                f"({no_onnxruntime}; {error}); pip install onnxruntime"
            ) from error
