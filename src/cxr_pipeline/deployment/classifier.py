"""``ImageClassifier``: a network with its image preparation and its decision rule."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_pipeline.common.errors import ImageRefused, UserError
from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.evaluation.decision_rule import DecisionRule, rule_from_dict

if TYPE_CHECKING:
    import keras

Image = np.ndarray[Any, np.dtype[np.uint8]]
# An image, uint8 [size, size], or why it could not be prepared.
Prepared = Image | ImageRefused

MODEL_FILE = "model.keras"
_SETTINGS_FILE = "classifier.json"
_ADVICE = "Name a model of this task, or null for the champion."


def output_columns(quantity: str, outputs: Sequence[str]) -> list[str]:
    """Return the names of the columns with a quantity of each output.

    Example:
        >>> output_columns("probability", ["effusion"])
        ['probability']
        >>> output_columns("threshold", ["Mass", "Edema"])
        ['threshold_Mass', 'threshold_Edema']
    """
    return [quantity] if len(outputs) == 1 else [f"{quantity}_{output}" for output in outputs]


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """Computes probabilities and decisions for images.

    The recipe converts an image to the input of the network, uint8 [n, size, size, 1]; the decision rule converts the
    scores in [0, 1], [n, k], to probabilities and decisions. The provenance has at least the ``task`` and the kind of
    the training ``images``, ``real`` or ``phantom``.
    """

    model: "keras.Model"
    recipe: Recipe
    decision_rule: DecisionRule
    provenance: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that affects a probability: weights, recipe and decision rule. 64 hex digits."""
        digest = hashlib.sha256()
        for weight in self.model.weights:
            values = np.ascontiguousarray(weight.numpy())
            digest.update(f"{values.dtype}{values.shape}".encode())
            digest.update(values.tobytes())
        digest.update(self.recipe.digest.encode())
        digest.update(json.dumps(self.decision_rule.to_dict(), sort_keys=True).encode())
        return digest.hexdigest()

    def check_classes(self, kind: str, classes: Sequence[str], *, model: str, advice: str = _ADVICE) -> None:
        """Raise `UserError`, with a message about ``model``, if the kind or the classes of a task are others."""
        rule = self.decision_rule
        if (rule.kind, list(rule.classes)) != (kind, list(classes)):
            raise UserError(
                f"{model} is {rule.kind}, with the classes {', '.join(rule.classes)}; expected {kind}, with the "
                f"classes {', '.join(classes)}. {advice}"
            )

    def score_batch(self, prepared: Sequence[Prepared]) -> pd.DataFrame:
        """Score a batch of images, prepared by the recipe or refused.

        Returns:
            A row per image, in order: ``probability`` in [0, 1] and ``decision`` (a class, or several joined by
            ``|``), both null if the image was refused; ``threshold``; ``status``, ``scored`` or ``refused``;
            ``reason`` of the refusal, else null. With several outputs, ``probability_<class>`` and
            ``threshold_<class>`` for each.
        """
        images = [image for image in prepared if not isinstance(image, ImageRefused)]
        y_score = self.model.predict_on_batch(np.stack(images)[..., np.newaxis]) if images else []
        return self.apply_rule(prepared, y_score)

    def apply_rule(self, prepared: Sequence[Prepared], y_score: ArrayLike) -> pd.DataFrame:
        """Return the rows of ``score_batch`` from the network's scores [n, k] for the n images that are not refused."""
        probability = np.full((len(prepared), len(self.decision_rule.outputs)), np.nan)
        decision = np.full(len(prepared), None, dtype=object)
        scored = [position for position, image in enumerate(prepared) if not isinstance(image, ImageRefused)]
        if scored:
            decisions = self.decision_rule.apply(np.asarray(y_score, dtype=np.float64))
            probability[scored], decision[scored] = decisions.probability, decisions.decision
        reasons = [image.reason if isinstance(image, ImageRefused) else None for image in prepared]
        outputs = self.decision_rule.outputs
        thresholds = [self.decision_rule.thresholds[output] for output in outputs]
        table = pd.DataFrame(probability, columns=output_columns("probability", outputs))
        table["decision"] = pd.Series(decision, dtype="str")
        table[output_columns("threshold", outputs)] = np.tile(thresholds, (len(prepared), 1))
        table["status"] = pd.Series(["scored" if reason is None else "refused" for reason in reasons], dtype="str")
        table["reason"] = pd.Series(reasons, dtype="str")
        return table

    def save(self, folder: Path) -> None:
        """Write the classifier into a new folder, without the state of the optimiser."""
        import keras

        folder.mkdir(parents=True)
        keras.Model(self.model.inputs, self.model.outputs, name=self.model.name).save(folder / MODEL_FILE)
        settings = {
            "recipe": self.recipe.to_dict(),
            "decision_rule": self.decision_rule.to_dict(),
            "provenance": dict(self.provenance),
            "digest": self.digest,
        }
        (folder / _SETTINGS_FILE).write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ImageClassifier":
        """Read a classifier written by ``save``, without running code from its files.

        Raises:
            UserError: its probabilities would differ from those when it was saved.
        """
        import keras

        settings = json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
        classifier = cls(
            model=keras.models.load_model(folder / MODEL_FILE, compile=False, safe_mode=True),
            recipe=Recipe(**settings["recipe"]),
            decision_rule=rule_from_dict(settings["decision_rule"]),
            provenance=settings["provenance"],
        )
        if classifier.digest != settings["digest"]:
            raise UserError(
                "The model was saved by a version of this package that prepares images differently, or its files "
                f"have changed since: expected the digest {settings['digest']}, found {classifier.digest}. Train it "
                "again, or serve it with the code stored with it: mlflow models serve -m models:/NAME/VERSION."
            )
        return classifier
