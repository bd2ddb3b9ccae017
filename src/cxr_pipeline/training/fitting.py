"""Fit a model on prepared images, and predict with it.

A network without frozen layers is trained as a whole, with augmentation in its graph. A model on a pretrained backbone
is trained in two phases from cached features: first its head on pooled features, then the top of the backbone from
activations at the cut. Everything is seeded: the same images, settings and machine give the same weights, even if
training was interrupted.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.mappings import json_digest
from cxr_pipeline.common.progress import progress_bar
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.training.checkpoints import Arrays, PhaseState, Row, prune
from cxr_pipeline.training.epoch_selection import MONITORS, validation_metrics
from cxr_pipeline.training.features import weights_digest
from cxr_pipeline.training.image_sets import ImageSet, batches, epoch_order, image_inputs
from cxr_pipeline.training.networks.build import FLOAT32_LAYERS
from cxr_pipeline.training.networks.losses import Loss, build_loss
from cxr_pipeline.training.networks.optimizers import build_optimizer
from cxr_pipeline.training.phases import Phase, plan_phases
from cxr_pipeline.training.settings import FITTING, TrainingSettings

logger = logging.getLogger(__name__)


def fit(
    *,
    model: keras.Model,
    train: ImageSet,
    validation: ImageSet,
    settings: TrainingSettings,
    exclusive: bool,
    augmentation: Mapping[str, Any],
    features: Path,
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
) -> tuple[keras.Model, pd.DataFrame]:
    """Train a model, starting from finished or interrupted training in `checkpoints` if there is any.

    Checkpoints are reused if model, images, augmentation, settings and library versions are the same.
    ``settings.monitor`` may differ, because the weights of the epoch that each metric selects are stored.

    If the model has frozen layers, they are the pretrained backbone. ``augmentation`` has the parameters of
    `build_augmentation`, and ``views``. ``features`` and ``checkpoints`` are the folders of the caches. ``on_epoch`` is
    called with the history row of each epoch once it is stored, including epochs that were stored before.

    Returns:
        The model with the weights of the selected epoch, and the history: ``phase``, ``epoch`` (from 1, over all
        phases), ``loss``, ``val_loss``, ``val_auc``, ``val_average_precision``, ``val_accuracy``, ``val_recall``,
        ``val_specificity``, ``learning_rate``, ``seconds``. Metrics are means over the outputs.
    """
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()
    decisive = {
        "version": [FITTING, keras.__version__, tf.__version__],
        "model": [weights_digest(model), [_describe(layer) for layer in model.layers]],
        "images": [train.digest, validation.digest],
        "augmentation": dict(augmentation),
        "settings": {name: value for name, value in asdict(settings).items() if name not in ("monitor", "folds")},
    }
    phases = plan_phases(model, train, validation, settings=settings, augmentation=augmentation, folder=features)
    trainer = Trainer(
        json_digest(decisive),
        checkpoints,
        train,
        validation,
        settings,
        exclusive,
        on_epoch,
        loss=build_loss(settings.loss, prevalence=train.prevalence, exclusive=exclusive),
    )
    history = trainer.run(phases)
    prune(checkpoints)
    return model, pd.DataFrame(history)


def predict(model: keras.Model, images: PreparedImages, sha256s: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Predict uncalibrated probabilities of n images, float32 [n, k], in 0..1, in constant memory."""
    if not len(sha256s):
        return np.empty((0, model.output_shape[-1]), np.float32)
    dataset = batches(image_inputs(images, model.input_shape[1:]), sha256s, batch_size=batch_size)
    with progress_bar("Scoring images", len(sha256s)) as update:
        advance = keras.callbacks.LambdaCallback(
            on_predict_batch_end=lambda batch, logs: update(completed=min((batch + 1) * batch_size, len(sha256s)))
        )
        scores: np.ndarray = model.predict(dataset, verbose=0, callbacks=[advance])
    return scores.astype(np.float32)


@dataclass(frozen=True)
class Trainer:
    """Train phase after phase as `fit` describes, with one checkpoint file per phase."""

    # Of everything that affects the result, except the metric that selects the epoch.
    digest: str
    folder: Path
    train: ImageSet
    validation: ImageSet
    settings: TrainingSettings
    exclusive: bool
    on_epoch: Callable[[Row], None]
    loss: Loss

    def run(self, phases: Sequence[Phase]) -> list[Row]:
        """Train the model, set the weights of the selected epoch, and return the history over all phases."""
        history: list[Row] = []
        digest = self.digest
        for phase in phases:
            for layer in phase.thawed:
                layer.trainable = True
            initial = _values(phase.network.weights)
            state, n_epochs = self._run_phase(phase, self.folder / f"{digest[:32]}.npz", history)
            n_earlier = len(history)
            history += state.history[:n_epochs]
            selected = self.settings.selector.select(history) - n_earlier
            # If an epoch of an earlier phase is still selected, this phase started from its weights.
            _assign(phase.network.weights, state.selected[selected] if selected >= 0 else initial)
            _assign(_random_states(phase.network), state.random.get(n_epochs - 1, []))
            # The next phase depends on the metric only through the epoch that it starts from.
            digest = json_digest([digest, n_epochs, selected])
        return history

    def _run_phase(self, phase: Phase, path: Path, earlier: Sequence[Row]) -> tuple[PhaseState, int]:
        """Complete a phase, and return its state and the number of epochs that count for this metric."""
        state = PhaseState.load(path)
        n_epochs = self._n_epochs(phase, state)
        for row in state.history[:n_epochs]:
            self.on_epoch(row)
        if n_epochs is not None:
            logger.info("%s: %d epochs were already trained (%s).", phase.name, n_epochs, path)
            return state, n_epochs
        if state.history:
            logger.info("%s: resuming after epoch %d (%s).", phase.name, len(state.history), path)
        with computing_in_bfloat16(phase.network, enabled=self.settings.mixed_bfloat16):
            self._train(phase, state, path, earlier)
        return state, len(state.history)

    def _n_epochs(self, phase: Phase, state: PhaseState) -> int | None:
        """Return the number of epochs of the phase, or None if it needs more epochs than the state has."""
        if (stop := self.settings.selector.stop(state.history)) is not None:
            return stop
        return phase.settings.epochs if len(state.history) == phase.settings.epochs else None

    def _train(self, phase: Phase, state: PhaseState, path: Path, earlier: Sequence[Row]) -> None:
        """Train the missing epochs, and save the state after each."""
        settings, network = phase.settings, phase.network
        steps = -(-int(self.train.count.sum()) // settings.batch_size)
        optimizer = build_optimizer(
            self.settings.optimizer,
            learning_rate=settings.learning_rate,
            schedule=self.settings.schedule,
            weight_decay=phase.weight_decay,
            total_steps=settings.epochs * steps,
        )
        network.compile(optimizer=optimizer, loss=self.loss, jit_compile=False)
        optimizer.build(network.trainable_variables)
        if state.history:
            _assign(network.variables, state.variables)
            _assign(optimizer.variables, state.optimizer)
        title = phase.name.replace("_", " ").capitalize()
        with progress_bar(title, settings.epochs * steps, completed=len(state.history) * steps) as update:
            advance = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: update(advance=1))
            while self._n_epochs(phase, state) is None:
                update(description=f"{title}, epoch {len(state.history) + 1} of {settings.epochs}")
                state.history.append(self._run_epoch(phase, len(state.history), len(earlier), advance))
                self._update(phase, state, earlier)
                state.save(path)
                self.on_epoch(state.history[-1])

    def _run_epoch(self, phase: Phase, epoch: int, n_earlier: int, callback: keras.callbacks.Callback) -> Row:
        """Train one epoch, 0-based within the phase, and return its history row."""
        started = time.perf_counter()
        network, train, validation, size = phase.network, self.train, self.validation, phase.settings.batch_size
        order = epoch_order(train.count, views=phase.views, seed=self.settings.seed, epoch=epoch)
        images = batches(phase.inputs, train.sha256, order, batch_size=size, targets=(train.y, train.weight))
        loss = network.fit(images, shuffle=False, verbose=0, callbacks=[callback]).history["loss"][0]
        rate, number = float(network.optimizer.learning_rate), n_earlier + epoch + 1
        if not math.isfinite(loss):
            raise UserError(
                f"Training diverged in epoch {number} ({phase.name}): the loss is {loss}. Lower the learning rate "
                f"of this phase ({rate:g}) and run the same command again."
            )
        in_order = batches(phase.inputs, validation.sha256, batch_size=size)
        scores = network.predict(in_order, verbose=0).astype(np.float32)
        row: Row = {
            "phase": phase.name,
            "epoch": number,
            "loss": float(loss),
            "val_loss": float(np.mean(self.loss(validation.y, scores))),
            **validation_metrics(validation.y, scores, exclusive=self.exclusive),
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
        state.selected[epoch] = _values(network.weights)
        needed = {self._selected_by(monitor, state.history, earlier) for monitor in MONITORS}
        state.selected = {index: weights for index, weights in state.selected.items() if index in needed}
        # Another metric may continue after early stopping with this one, but not after the last epoch.
        resumable = len(state.history) < phase.settings.epochs
        state.variables = _values(network.variables) if resumable else []
        state.optimizer = _values(network.optimizer.variables) if resumable else []

    def _selected_by(self, monitor: str, history: Sequence[Row], earlier: Sequence[Row]) -> int:
        """Return the epoch of this phase that a metric selects; it is negative for an epoch of an earlier phase."""
        selector = replace(self.settings.selector, monitor=monitor)
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


def _describe(layer: Any) -> tuple[str, dict[str, Any]]:
    """Return type and configuration of a layer, except its name, which depends on the layers built before."""
    return type(layer).__name__, {key: value for key, value in layer.get_config().items() if key != "name"}
