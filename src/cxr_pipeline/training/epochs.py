"""Run the phases of a training epoch by epoch."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich import get_console
from rich.progress import Progress

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.training.checkpoints import Arrays, PhaseState, Row
from cxr_pipeline.training.epoch_selection import MONITORS, EpochSelector
from cxr_pipeline.training.networks.build import FLOAT32_LAYERS
from cxr_pipeline.training.validation_metrics import validation_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """A part of a training with one network, one optimizer and one learning rate.

    Args:
        name: ``frozen``, ``fine_tuning`` or ``training``.
        network: the network to train, which shares its layers with the model.
        thawed: layers that become trainable in this phase.
        epochs: largest number of epochs.
        steps: batches per epoch.
        train: maps an epoch, 0-based within the phase, to its batches.
        validation: batches of the validation images, in order.
        optimizer: makes a new optimizer.
    """

    name: str
    network: keras.Model
    thawed: Sequence[keras.Layer]
    epochs: int
    steps: int
    train: Callable[[int], tf.data.Dataset]
    validation: tf.data.Dataset
    optimizer: Callable[[], keras.optimizers.Optimizer]


@dataclass(frozen=True)
class Trainer:
    """Train phase after phase; resume from, and store in, one checkpoint file per phase.

    Args:
        digest: of everything that decides the result, except `selector.monitor`.
        folder: folder of the checkpoints.
        loss: maps labels and probabilities [n, k] to one value per image [n].
        selector: selects the epoch whose weights remain in the model.
        y_validation: labels of the validation images, float32 [n, k], NaN where unknown.
        exclusive: exactly one label of an image is 1.
        on_epoch: called with the history row of each epoch, including those read from a checkpoint.
        mixed_bfloat16: compute in bfloat16.
    """

    digest: str
    folder: Path
    loss: Callable[[keras.KerasTensor, keras.KerasTensor], keras.KerasTensor]
    selector: EpochSelector
    y_validation: np.ndarray
    exclusive: bool
    on_epoch: Callable[[Row], None]
    mixed_bfloat16: bool

    def run(self, phases: Sequence[Phase]) -> list[Row]:
        """Train, and leave the weights of the selected epoch in the model.

        Returns:
            The history, one row per epoch over all phases.

        Raises:
            UserError: the loss is not finite.
        """
        history: list[Row] = []
        digest = self.digest
        for phase in phases:
            for layer in phase.thawed:
                layer.trainable = True
            initial = _values(phase.network.weights)
            state, n_epochs = self._run_phase(phase, self.folder / f"{digest[:32]}.npz", history)
            n_earlier = len(history)
            history += state.history[:n_epochs]
            selected = self.selector.select(history) - n_earlier
            # An epoch of an earlier phase that is still selected was selected when this phase started.
            _assign(phase.network.weights, state.selected[selected] if selected >= 0 else initial)
            _assign(_random_states(phase.network), state.random.get(n_epochs - 1, []))
            # The next phase depends on the metric only through the epoch that it starts from.
            digest = json_digest([digest, n_epochs, selected])
        return history

    def _run_phase(self, phase: Phase, path: Path, earlier: Sequence[Row]) -> tuple[PhaseState, int]:
        """Complete a phase; return its state, and the number of epochs that count for this selector."""
        state = PhaseState.load(path)
        n_epochs = self._n_epochs(phase, state)
        for row in state.history[:n_epochs]:
            self.on_epoch(row)
        if n_epochs is not None:
            logger.info("%s: all %d epochs were trained before (%s).", phase.name, n_epochs, path)
            return state, n_epochs
        if state.history:
            logger.info("%s: resuming after epoch %d (%s).", phase.name, len(state.history), path)
        with computing_in_bfloat16(phase.network, enabled=self.mixed_bfloat16):
            self._train(phase, state, path, earlier)
        return state, len(state.history)

    def _n_epochs(self, phase: Phase, state: PhaseState) -> int | None:
        """Return after how many epochs this phase ends, or None if more are to be trained."""
        stop = self.selector.stop(state.history)
        return phase.epochs if stop is None and len(state.history) == phase.epochs else stop

    def _train(self, phase: Phase, state: PhaseState, path: Path, earlier: Sequence[Row]) -> None:
        network, optimizer = phase.network, phase.optimizer()
        network.compile(optimizer=optimizer, loss=self.loss, jit_compile=False)
        optimizer.build(network.trainable_variables)
        if state.history:
            _assign(network.variables, state.variables)
            _assign(optimizer.variables, state.optimizer)
        n_steps = phase.epochs * phase.steps
        with Progress(transient=True, disable=not get_console().is_terminal) as bar:
            task = bar.add_task(phase.name, total=n_steps, completed=len(state.history) * phase.steps)
            advance = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: bar.advance(task))
            while self._n_epochs(phase, state) is None:
                state.history.append(self._run_epoch(phase, state, n_earlier=len(earlier), callback=advance))
                self._update(phase, state, earlier)
                state.save(path)
                self.on_epoch(state.history[-1])

    def _run_epoch(self, phase: Phase, state: PhaseState, *, n_earlier: int, callback: keras.callbacks.Callback) -> Row:
        """Train one epoch and return its history row."""
        started = time.perf_counter()
        network, epoch = phase.network, len(state.history)
        fitted = network.fit(phase.train(epoch), epochs=1, shuffle=False, verbose=0, callbacks=[callback])
        loss, rate = float(fitted.history["loss"][0]), float(network.optimizer.learning_rate)
        number = n_earlier + epoch + 1
        if not math.isfinite(loss):
            raise UserError(
                f"Training diverged in epoch {number} ({phase.name}): the loss is {loss}. Lower the learning rate "
                f"of this phase ({rate:g}) and run the same command again."
            )
        scores = network.predict(phase.validation, verbose=0).astype(np.float32)
        row: Row = {
            "phase": phase.name,
            "epoch": number,
            "loss": loss,
            "val_loss": float(np.mean(self.loss(self.y_validation, scores))),
            **validation_metrics(self.y_validation, scores, exclusive=self.exclusive),
            "learning_rate": rate,
            "seconds": time.perf_counter() - started,
        }
        logger.info(
            "%s, epoch %d: loss %.4f, val_loss %.4f, val_auc %.4f (%.1f s)",
            *(row[name] for name in ("phase", "epoch", "loss", "val_loss", "val_auc", "seconds")),
        )
        return row

    def _update(self, phase: Phase, state: PhaseState, earlier: Sequence[Row]) -> None:
        """Update a state after an epoch: keep the weights that some metric selects, each once."""
        epoch, network = len(state.history) - 1, phase.network
        state.random[epoch] = _values(_random_states(network))
        needed = {self._selected_by(monitor, state.history, earlier) for monitor in MONITORS}
        current = {epoch: _values(network.weights)}
        state.selected = {index: weights for index, weights in (state.selected | current).items() if index in needed}
        # Another metric may continue where patience stopped this one, but nothing continues after the last epoch.
        resumable = len(state.history) < phase.epochs
        state.variables = _values(network.variables) if resumable else []
        state.optimizer = _values(network.optimizer.variables) if resumable else []

    def _selected_by(self, monitor: str, history: Sequence[Row], earlier: Sequence[Row]) -> int:
        """Epoch of this phase that a training by another metric selects; negative if it is of an earlier phase."""
        selector = replace(self.selector, monitor=monitor)
        return selector.select([*earlier, *history[: selector.stop(history)]]) - len(earlier)


@contextmanager
def computing_in_bfloat16(network: keras.Model, *, enabled: bool) -> Iterator[None]:
    """Let a network compute in bfloat16 with float32 weights inside the context.

    Normalisation, augmentation and output stay in float32: bfloat16 cannot represent 256 grey levels.
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


def _random_states(network: keras.Model) -> list[keras.Variable]:
    return [variable for variable in network.variables if variable.path.endswith("seed_generator_state")]


def _values(variables: Sequence[keras.Variable]) -> Arrays:
    return [np.array(variable.numpy()) for variable in variables]


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
