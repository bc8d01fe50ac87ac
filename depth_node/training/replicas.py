"""One replica of the network for each core of a CPU, each with its share of the batch.

Two threads that share every convolution wait for one another some thousand times in a step; two
replicas wait once. On two cores that is a third faster, and several times faster where something
else runs on them too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor, nn

ShareLoss = Callable[[nn.Module, slice], dict[str, Tensor]]
"""Computes the losses of some images of the batch with the given network; calls no backward."""


class Replicas:
    """Networks that share their weights but neither gradients nor batch statistics.

    The result depends on the number of replicas (each normalises over its own share) but not on
    which thread comes first.
    """

    def __init__(self, model: nn.Module, count: int) -> None:
        """Make `count` - 1 copies of a model; with one replica everything runs in the caller."""
        self._all = [model, *(copy.deepcopy(model) for _ in range(count - 1))]
        for replica in self._all[1:]:
            for own, shared in zip(replica.parameters(), model.parameters(), strict=True):
                own.data = shared.data
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="replica") if count > 1 else None

    def backward(self, images: int, loss: ShareLoss) -> dict[str, Tensor]:
        """Run forward and backward over a batch; the model's gradients become their mean.

        Args:
            images: size of the batch, at least the number of replicas.
            loss: computes the losses of a share; `total` is differentiated.

        Returns:
            The losses, detached, averaged over the shares.
        """
        if self._pool is None:
            return _backward(self._all[0], slice(0, images), loss)
        count = len(self._all)
        bounds = [images * i // count for i in range(count + 1)]
        parts = [slice(first, end) for first, end in pairwise(bounds)]
        jobs = [
            self._pool.submit(_alone, replica, part, loss)
            for replica, part in zip(self._all, parts, strict=True)
        ]
        shares = [job.result() for job in jobs]
        weights = [(part.stop - part.start) / images for part in parts]
        self._gather(weights)
        return {
            name: torch.stack([w * s[name] for w, s in zip(weights, shares, strict=True)]).sum()
            for name in shares[0]
        }

    @torch.no_grad()
    def _gather(self, weights: list[float]) -> None:
        """Average gradients into the first replica and batch statistics into all."""
        for parameters in zip(*(r.parameters() for r in self._all), strict=True):
            gradient = parameters[0].grad
            assert gradient is not None
            gradient.mul_(weights[0])
            for parameter, weight in zip(parameters[1:], weights[1:], strict=True):
                assert parameter.grad is not None
                gradient.add_(parameter.grad, alpha=weight)
                parameter.grad = None
        for buffers in zip(*(r.buffers() for r in self._all), strict=True):
            if buffers[0].is_floating_point():
                mean = torch.stack([b * w for b, w in zip(buffers, weights, strict=True)]).sum(0)
                for buffer in buffers:
                    buffer.copy_(mean)

    def share_statistics(self) -> None:
        """Give every replica the first one's batch statistics, after a checkpoint was loaded."""
        for buffers in zip(*(r.buffers() for r in self._all), strict=True):
            for buffer in buffers[1:]:
                buffer.copy_(buffers[0])


def _alone(model: nn.Module, part: slice, loss: ShareLoss) -> dict[str, Tensor]:
    # This setting belongs to the thread that makes it, as OpenMP's does.
    torch.set_num_threads(1)
    return _backward(model, part, loss)


def _backward(model: nn.Module, part: slice, loss: ShareLoss) -> dict[str, Tensor]:
    losses = loss(model, part)
    losses["total"].backward()
    return {name: value.detach() for name, value in losses.items()}
