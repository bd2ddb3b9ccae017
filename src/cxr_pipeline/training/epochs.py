"""One phase of training after the other, epoch by epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
from rich import get_console
from rich.progress import Progress

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.training.checkpoints import Checkpoint, Row, State
from cxr_pipeline.training.epoch_selection import EpochSelector
from cxr_pipeline.training.networks.build import FLOAT32_LAYERS

if TYPE_CHECKING:
    from keras import KerasTensor, Layer, Model, Variable
    from keras.callbacks import Callback
    from keras.optimizers import Optimizer
    from tensorflow.data import Dataset


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """A part of training with one network, one optimiser and one rate.

    Args:
        name: ``frozen``, ``fine_tuning`` or ``training``.
        network: what is trained, sharing its layers with the model.
        thawed: layers that are trainable in this phase, besides those that already are.
        epochs: at most so many.
        steps: batches of an epoch.
        train: from an epoch, 0-based within the phase, to its batches.
        validation: batches of the validation images, in order.
        optimizer: makes a fresh optimiser.
    """

    name: str
    network: Model
    thawed: Sequence[Layer]
    epochs: int
    steps: int
    train: Callable[[int], Dataset]
    validation: Dataset
    optimizer: Callable[[], Optimizer]


@dataclass
class Chosen:
    """A choice of the epoch, and the state that a training by this choice goes on from.

    Args:
        choice: of the epoch whose weights are kept.
        checkpoint: where the state is saved after each epoch.
    """

    choice: EpochSelector
    checkpoint: Checkpoint
    kept: list[np.ndarray] = field(default_factory=list)
    ended: bool = False

    def follow(self, state: State, weights: list[np.ndarray]) -> None:
        """Look at the last epoch of another training; keep its weights if this choice would.

        Args:
            state: of the other training.
            weights: what is kept of an epoch.
        """
        if self.ended:
            return
        if self.choice.select(state.history) == len(state.history) - 1:
            self.kept = weights
        if self.choice.exhausted(state.history):
            self.end(state)

    def end(self, state: State) -> None:
        """Save where a training by this choice stands now, unless it ended before."""
        if not self.ended:
            self.checkpoint.save(State(state.history, state.variables, state.optimizer, self.kept))
        self.ended = True


@dataclass(frozen=True)
class Trainer:
    """What all phases of a training share.

    Args:
        loss: of labels and probabilities [n, k], one value an image.
        chosen: the choice of the epoch whose weights are kept.
        companions: other choices, for which the same training is kept where it has one phase.
        asked_again: keep where the training ended, for another that is the same.
        y_validation: labels of the validation images, float32 [n, k], NaN where unknown.
        exclusive: exactly one label of an image is 1.
        kept: variables whose values at the chosen epoch are kept.
        on_epoch: called with the history row of each epoch, those restored from the checkpoint included.
        mixed_bfloat16: compute in bfloat16.
    """

    loss: Callable[[KerasTensor, KerasTensor], KerasTensor]
    chosen: Chosen
    companions: Sequence[Chosen]
    asked_again: bool
    y_validation: np.ndarray
    exclusive: bool
    kept: Sequence[Variable]
    on_epoch: Callable[[Row], None]
    mixed_bfloat16: bool

    def run(self, phases: Sequence[Phase]) -> list[Row]:
        """Train from the last whole epoch on, and leave the weights of the chosen epoch in the model.

        Returns:
            The history, one row for each epoch.

        Raises:
            UserError: the loss is no longer a number.
        """
        state = self.chosen.checkpoint.load()
        companions = self.companions if len(phases) == 1 and not state.history else []
        if state.history:
            logger.info("Training goes on after epoch %d.", len(state.history))
        for row in state.history:
            self.on_epoch(row)
        for phase in phases:
            with computing_in_bfloat16(phase.network, enabled=self.mixed_bfloat16):
                self._run_phase(phase, state, companions)
            _assign(self.kept, state.kept)
        for companion in companions:
            companion.end(state)
        if self.asked_again:
            self.chosen.checkpoint.save(State(state.history, kept=state.kept))
        else:
            self.chosen.checkpoint.remove()
        return state.history

    def _run_phase(self, phase: Phase, state: State, companions: Sequence[Chosen]) -> None:
        for layer in phase.thawed:
            layer.trainable = True
        optimizer = phase.optimizer()
        phase.network.compile(optimizer=optimizer, loss=self.loss, jit_compile=False)
        optimizer.build(phase.network.trainable_variables)
        rows = [row for row in state.history if row["phase"] == phase.name]
        # Of a training that has ended only the weights of the chosen epoch are left.
        if rows and state.history[-1] is rows[-1] and state.variables:
            _assign(phase.network.variables, state.variables)
            _assign(optimizer.variables, state.optimizer)
        with Progress(transient=True, disable=not get_console().is_terminal) as bar:
            task = bar.add_task(phase.name, total=phase.epochs * phase.steps, completed=len(rows) * phase.steps)
            stepping = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: bar.advance(task))
            while len(rows) < phase.epochs and not self.chosen.choice.exhausted(rows):
                rows.append(self._run_epoch(phase, epoch=len(rows), shown=len(state.history) + 1, callback=stepping))
                self._keep(phase, state, rows[-1])
                for companion in companions:
                    companion.follow(state, _values(self.kept))

    def _run_epoch(self, phase: Phase, *, epoch: int, shown: int, callback: Callback) -> Row:
        started = time.perf_counter()
        network = phase.network
        fitted = network.fit(phase.train(epoch), epochs=1, shuffle=False, verbose=0, callbacks=[callback])
        loss = fitted.history["loss"][0]
        if not math.isfinite(loss):
            raise UserError(
                f"Training diverged in epoch {shown} ({phase.name}): the loss is {loss}. Lower the learning rate "
                f"of that phase ({float(network.optimizer.learning_rate):g}) and run the same command again."
            )
        scores = network.predict(phase.validation, verbose=0).astype(np.float32)
        return {
            "phase": phase.name,
            "epoch": shown,
            "loss": float(loss),
            "val_loss": float(np.mean(self.loss(self.y_validation, scores))),
            **validation_metrics(self.y_validation, scores, exclusive=self.exclusive),
            "learning_rate": float(network.optimizer.learning_rate),
            "seconds": time.perf_counter() - started,
        }

    def _keep(self, phase: Phase, state: State, row: Row) -> None:
        state.history.append(row)
        state.variables = _values(phase.network.variables)
        state.optimizer = _values(phase.network.optimizer.variables)
        if self.chosen.choice.select(state.history) == len(state.history) - 1:
            state.kept = _values(self.kept)
        self.chosen.checkpoint.save(state)
        logger.info(
            "%s, epoch %d: loss %.4f, val_loss %.4f, val_auc %.4f (%.1f s)",
            *(row[name] for name in ("phase", "epoch", "loss", "val_loss", "val_auc", "seconds")),
        )
        self.on_epoch(row)


def validation_metrics(y_true: np.ndarray, y_score: np.ndarray, *, exclusive: bool) -> dict[str, float]:
    """Metrics of one epoch: those of each output over its known labels, then their mean.

    Args:
        y_true: labels [n, k], 0, 1 or NaN for unknown.
        y_score: probabilities [n, k], 0..1.
        exclusive: the output with the highest probability is called, and accuracy is the fraction of images where
            it is the right one; otherwise each output from 0.5 on.

    Returns:
        Values by column of the history; NaN where no output has both classes (or the one that is needed).
    """
    highest = y_score.argmax(axis=1)
    called = highest[:, np.newaxis] == np.arange(y_score.shape[1]) if exclusive else y_score >= 0.5
    known = ~np.isnan(y_true)
    of_outputs = [
        _output_metrics(y_true[rows, place] > 0.5, y_score[rows, place], called[rows, place])
        for place, rows in enumerate(known.T)
    ]
    values = {str(name): float(value) for name, value in pd.DataFrame(of_outputs).mean().items()}
    return values | ({"val_accuracy": float(np.mean(highest == y_true.argmax(axis=1)))} if exclusive else {})


def _output_metrics(positive: np.ndarray, y_score: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """Metrics of one output; labels, probabilities and calls are [n]."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    some, all_of_them = bool(positive.any()), bool(positive.all())
    return {
        "val_auc": float(roc_auc_score(positive, y_score)) if some and not all_of_them else math.nan,
        "val_average_precision": float(average_precision_score(positive, y_score)) if some else math.nan,
        "val_accuracy": float(np.mean(called == positive)) if len(positive) else math.nan,
        "val_recall": float(np.mean(called[positive])) if some else math.nan,
        "val_specificity": float(np.mean(~called[~positive])) if not all_of_them else math.nan,
    }


@contextmanager
def computing_in_bfloat16(network: Model, *, enabled: bool) -> Iterator[None]:
    """Let a network compute in bfloat16 with float32 weights, and as before afterwards.

    Normalisation, augmentation and the output stay in float32: bfloat16 has no room for 256 greys.
    """
    layers = [layer for layer in network.layers if enabled and layer.name not in FLOAT32_LAYERS]
    nested = [inner for layer in layers for inner in getattr(layer, "layers", ()) if inner.name not in FLOAT32_LAYERS]
    policies = [(layer, layer.dtype_policy) for layer in (*layers, *nested) if not hasattr(layer, "layers")]
    try:
        for layer, _ in policies:
            layer.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
        yield
    finally:
        for layer, policy in policies:
            layer.dtype_policy = policy


def _values(variables: Sequence[Variable]) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
