"""The training loop: one process, exact resume, an exponential average of the weights to ship."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from depth_node.training.alignment import (
    AlignedStudent,
    AlignmentConfig,
    FrozenEncoder,
    alignment_loss,
)
from depth_node.training.data import AugmentConfig, Batch, batches, make_batch
from depth_node.training.distillation import batch_loss
from depth_node.training.frames import Mixture, Step
from depth_node.training.losses import LossConfig
from depth_node.training.network import NetworkConfig, Student, normalised
from depth_node.training.optimiser import Optimiser
from depth_node.training.replicas import Replicas
from depth_node.training.start import StartConfig, load_start

Log = Callable[[int, dict[str, float]], None]

_START_IMAGES = 64
"""How many images give the batch statistics of the weights that a run starts from."""


class CheckpointError(RuntimeError):
    """A checkpoint does not belong to this run; the message says what differs."""


@dataclass(frozen=True)
class Phase:
    """A part of the run at one image size.

    Attributes:
        steps: how many updates.
        width: image width, pixels, a multiple of 32.
        height: image height, pixels, a multiple of 32.
        batch: images in a step.
        gradient: weight of the gradient matching in this phase; None takes that of `loss`. It makes
            edges sharp, but a network that does not know yet where they are learns from it to be
            smooth.
    """

    steps: int
    width: int
    height: int
    batch: int
    gradient: float | None = None


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run but its frames.

    Attributes:
        seed: of the weights, of the order of the frames and of every disturbance.
        phases: run one after another under one learning-rate cycle; small images first are cheap.
        network: what is trained.
        start: the exported student whose weights come first; none unless it names one.
        loss: the weights of the losses.
        alignment: with the features of a frozen encoder; off unless it has a weight.
        augment: how frames are disturbed.
        learning_rate: what it is between its rise and its fall.
        weight_decay: on kernels only.
        warmup: share of all steps in which the rate rises.
        decay: share of all steps in which it falls, at the end.
        average: decay of the exponential average of the weights.
        precision: `bf16` computes convolutions in bfloat16, `fp32` nothing.
        replicas: networks that each take a share of the batch in a thread of their own; on a CPU
            as many as there are cores, on a GPU one.
        checkpoint_every: steps between checkpoints.
    """

    seed: int = 0
    phases: tuple[Phase, ...] = (Phase(1000, 256, 192, 32),)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    start: StartConfig = field(default_factory=StartConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    learning_rate: float = 3e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    decay: float = 0.3
    average: float = 0.998
    precision: Literal["bf16", "fp32"] = "bf16"
    replicas: int = 1
    checkpoint_every: int = 250

    @property
    def steps(self) -> int:
        """Updates in the whole run."""
        return sum(phase.steps for phase in self.phases)

    def loss_at(self, step: int) -> LossConfig:
        """The weights of the losses at a step."""
        end = 0
        for phase in self.phases:
            end += phase.steps
            if step < end:
                given = phase.gradient
                return self.loss if given is None else replace(self.loss, gradient=given)
        return self.loss

    def plan(self, start: int = 0) -> Iterator[Step]:
        """Yield the run's steps from number `start` on."""
        before, shown = 0, 0  # steps and images of the phases before
        for phase in self.phases:
            size = (phase.width, phase.height)
            for number in range(max(before, start), before + phase.steps):
                first = shown + (number - before) * phase.batch
                yield Step(number, first, phase.batch, size)
            before += phase.steps
            shown += phase.steps * phase.batch


def learning_rate(config: RunConfig, step: int) -> float:
    """Linear rise, plateau, linear fall to nearly nothing.

    Unlike a cosine's, the plateau does not depend on how long the run will be: it can be prolonged,
    and only the fall is run anew (Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond
    Fixed Training Durations", NeurIPS 2024).
    """
    done = (step + 0.5) / config.steps
    rise = done / config.warmup if config.warmup else 1.0
    fall = (1 - done) / config.decay if config.decay else 1.0
    return config.learning_rate * max(min(rise, fall, 1.0), 0.005)


def check_checkpoint(path: Path, config: RunConfig, sources: Sequence[str] = ()) -> None:
    """Refuse a checkpoint of another run, without loading its weights.

    Args:
        path: the checkpoint.
        config: the run that would continue from it.
        sources: what that run's images are drawn from, one line each.

    Raises:
        CheckpointError: it was written by a run with another configuration or from other sources.
    """
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    _check_state(path, state, config, sources)


def _check_state(
    path: Path, state: dict[str, Any], config: RunConfig, sources: Sequence[str]
) -> None:
    if state["config"] != repr(config):
        raise CheckpointError(
            f"{path} was written with another configuration; give another output folder or "
            f"remove it.\n  it has: {state['config']}\n  now:    {config!r}"
        )
    before = state.get("sources", list(sources))  # older checkpoints do not say
    if before != list(sources):
        raise CheckpointError(
            f"{path} was written by a run on other images (`data`, `folders`, a file in them or "
            "the world's code is not what it was); give another output folder or remove it.\n"
            f"  it has: {'; '.join(before)}\n  now:    {'; '.join(sources)}"
        )


class Trainer:
    """The state of a run.

    Attributes:
        config: the run.
        sources: what its images are drawn from, one line each; kept in the checkpoint.
        step: updates done.
        model: the weights in training.
        averaged: their exponential average, batch statistics included; this is what is shipped.
    """

    def __init__(self, config: RunConfig, device: str = "cpu", sources: Sequence[str] = ()) -> None:
        """Start a run.

        Raises:
            AlignmentError: alignment is asked for and its encoder is not to be had.
        """
        self.config = config
        self.sources = list(sources)
        self.step = 0
        self.device = torch.device(device)
        # Before the seed: loading it draws random numbers.
        self._encoder = (
            FrozenEncoder(config.alignment, self.device) if config.alignment.weight > 0 else None
        )
        torch.manual_seed(config.seed)
        self.model = Student(config.network)
        self._trained: nn.Module = self.model
        if self._encoder is not None:
            self._trained = AlignedStudent(self.model, self._encoder.channels)
        self._trained.to(device=self.device, memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self._replicas = Replicas(self._trained, config.replicas)
        self.optimiser = Optimiser(self._trained, config.weight_decay)

    def begin(self, data: Mixture) -> None:
        """Take the weights that the run starts from, where it names some.

        Raises:
            StartError: they are not to be had, not those that were meant, or of another network.
        """
        if not self.config.start.weights:
            return
        *_, last = self.config.plan()
        # Any images would do, but another choice would end runs with other bits.
        step = replace(last, first=last.number * _START_IMAGES, count=_START_IMAGES)
        batch = make_batch(data, self.config.augment, self.config.seed, step)
        load_start(
            self.config.start,
            self.model,
            normalised(torch.from_numpy(batch.image).to(self.device)),
        )
        self.averaged.load_state_dict(self.model.state_dict())
        self._replicas.share_statistics()

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on a batch and return the losses, detached."""
        image = normalised(torch.from_numpy(batch.image).to(self.device))
        disparity, teacher, pasted = (
            torch.from_numpy(array).to(self.device)
            for array in (batch.disparity, batch.teacher, batch.pasted)
        )
        reference = None
        if self._encoder is not None:
            reference = self._encoder.features(torch.from_numpy(batch.plain).to(self.device))
        reduced = self.config.precision == "bf16"
        weights = self.config.loss_at(self.step)
        alignment = self.config.alignment

        def loss(model: nn.Module, part: slice) -> dict[str, Tensor]:
            model.train()
            generator = torch.Generator(self.device)
            generator.manual_seed(1_000_003 * self.step + part.start)
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=reduced):
                outputs = model(image[part])
            prediction = outputs if reference is None else outputs[0]
            losses = batch_loss(
                prediction,
                disparity[part],
                teacher[part],
                pasted[part],
                weights,
                generator,
            )
            if reference is not None:
                apart = alignment_loss(outputs[1], reference[part], alignment.margin)
                losses["alignment"] = apart
                losses["total"] = losses["total"] + alignment.weight * apart
            return losses

        self.optimiser.zero_grad()
        losses = self._replicas.backward(len(image), loss)
        nn.utils.clip_grad_norm_(self._trained.parameters(), 1.0)
        self.optimiser.step(learning_rate(self.config, self.step))
        self._average()
        self.step += 1
        return losses

    @torch.no_grad()
    def _average(self) -> None:
        # Early on the average follows quickly, or it would remember the random start for long.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for mean, now in zip(
            self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def save(self, path: Path) -> None:
        """Write a checkpoint; it replaces the old one only when it is complete."""
        state = {
            "config": repr(self.config),
            "sources": self.sources,
            "step": self.step,
            "model": self._trained.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: see check_checkpoint.
        """
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        _check_state(path, state, self.config, self.sources)
        self._trained.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self._replicas.share_statistics()
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = int(state["step"])


def train(
    config: RunConfig,
    data: Mixture,
    checkpoint: Path,
    *,
    sources: Sequence[str] = (),
    device: str = "cpu",
    stop_at: int | None = None,
    log: Log | None = None,
) -> Trainer:
    """Run, or continue, a training to its end.

    Args:
        config: the run.
        data: what to train on.
        checkpoint: file to continue from where it exists, and to write regularly.
        sources: what `data` is drawn from, one line each; a checkpoint on others is refused.
        device: `cpu` or `cuda`.
        stop_at: end after this many steps of the whole run, as an interruption would.
        log: called with (step, mean losses since the last call) every 50 steps.

    Raises:
        AlignmentError: alignment is asked for and its encoder is not to be had.
        CheckpointError: the checkpoint belongs to another run.
        FloatingPointError: the loss is no longer finite.
        StartError: see Trainer.begin.
    """
    trainer = Trainer(config, device, sources)
    if checkpoint.exists():
        trainer.restore(checkpoint)
    else:
        trainer.begin(data)
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    recent: dict[str, float] = {}
    since, began = 0, time.monotonic()
    plan = (step for step in config.plan(trainer.step) if step.number < end)
    with tqdm(total=config.steps, initial=trainer.step, unit="step", desc="training") as bar:
        for batch in batches(data, config.augment, config.seed, plan):
            for name, loss in trainer.update(batch).items():
                recent[name] = recent.get(name, 0.0) + float(loss)
            since += 1
            bar.update()
            if not math.isfinite(recent["total"]):
                raise FloatingPointError(
                    f"the loss is not finite at step {trainer.step}: lower learning_rate"
                )
            if trainer.step % 50 == 0 or trainer.step == end:
                means = {name: value / since for name, value in recent.items()}
                means["images_per_s"] = since * len(batch.image) / (time.monotonic() - began)
                bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
                if log is not None:
                    log(trainer.step, means)
                recent, since, began = {}, 0, time.monotonic()
            if trainer.step % config.checkpoint_every == 0 or trainer.step == end:
                trainer.save(checkpoint)
    return trainer
