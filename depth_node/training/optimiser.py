"""How the weights are updated: Muon for kernels, AdamW for all that is no matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

State = dict[str, Any]


class Optimiser:
    """Two of PyTorch's optimisers behind one learning rate.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a weight matrix, so that every
    direction of it learns, not only those of the largest gradients. A convolution's kernel is
    such a matrix, outputs x (inputs * area). Its steps are as large as AdamW's where both get the
    same rate (Liu et al., "Muon is Scalable for LLM Training", 2025). Depthwise kernels, biases
    and normalisations are no matrices: they get AdamW.
    """

    def __init__(self, module: nn.Module, weight_decay: float) -> None:
        """Take the parameters of a module that is where it will be trained, channels last.

        Args:
            module: what is trained.
            weight_decay: on kernels only.
        """
        kernels = [p for p in module.parameters() if p.ndim == 4]
        dense = [p for p in kernels if p.shape[1] > 1]
        depthwise = [p for p in kernels if p.shape[1] == 1]
        vectors = [p for p in module.parameters() if p.ndim != 4]
        self._pairs = [(kernel, _matrix(kernel)) for kernel in dense]
        self._muon = _Muon([matrix for _, matrix in self._pairs], weight_decay=weight_decay)
        groups = [
            {"params": depthwise, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self._adam = torch.optim.AdamW([g for g in groups if g["params"]], betas=(0.9, 0.98))

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self._adam.zero_grad(set_to_none=True)
        for kernel, _ in self._pairs:
            kernel.grad = None

    def step(self, rate: float) -> None:
        """Update all parameters that have a gradient.

        Args:
            rate: the learning rate of this step.
        """
        for kernel, matrix in self._pairs:
            matrix.grad = None if kernel.grad is None else _rows(kernel.grad)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # some hundred small products: alone is twice as fast as in a pair
        try:
            for optimiser in (self._muon, self._adam):
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
        finally:
            torch.set_num_threads(threads)

    def state_dict(self) -> State:
        """What a checkpoint has to hold."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Continue from what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


class _Muon(torch.optim.Muon):
    """PyTorch's Muon, orthogonalised in float32.

    PyTorch does that in bfloat16, which a CPU without such instructions emulates: two seconds a
    step for the student there, instead of a tenth of one.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all matrices that have a gradient; hyperparameters and state are PyTorch's."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad)
                momentum = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                wanted = matrix.grad.lerp(momentum, group["momentum"])
                # The same root mean square as an update of AdamW (Liu et al. 2025, 2.2).
                length = 0.2 * max(matrix.shape) ** 0.5
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(_orthogonal(wanted, group), alpha=-group["lr"] * length)


def _orthogonal(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """U V^T of the matrix' singular value decomposition, nearly: Newton and Schulz's iteration."""
    a, b, c = group["ns_coefficients"]
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


def _rows(kernel: Tensor) -> Tensor:
    """Outputs x inputs x h x w as outputs x (h * w * inputs)."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def _matrix(kernel: nn.Parameter) -> nn.Parameter:
    """The same numbers as a matrix: what is written to one is read from the other."""
    matrix = nn.Parameter(_rows(kernel.detach()))
    assert matrix.data_ptr() == kernel.data_ptr(), "kernels have to lie channels last"
    return matrix
