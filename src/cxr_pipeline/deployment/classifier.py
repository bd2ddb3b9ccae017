"""``ImageClassifier``: a network with all that stands before and behind it."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
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
Prepared = Image | ImageRefused

_MODEL_FILE = "model.keras"
_SETTINGS_FILE = "classifier.json"


def probability_columns(outputs: Sequence[str]) -> list[str]:
    """Name the columns of the probabilities: ``probability`` where there is one, else ``probability_<class>``."""
    return ["probability"] if len(outputs) == 1 else [f"probability_{output}" for output in outputs]


def threshold_columns(outputs: Sequence[str]) -> list[str]:
    """Name the columns of the thresholds in the same way: ``threshold``, or ``threshold_<class>``."""
    return [name.replace("probability", "threshold", 1) for name in probability_columns(outputs)]


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """Takes images, gives probabilities and decisions.

    Args:
        model: takes uint8 [n, size, size, 1], gives scores in [0, 1], [n, k].
        recipe: how an image becomes the network's input.
        decision_rule: how its k scores become probabilities and a decision.
        provenance: what it was trained for and on, such as ``{"task": "effusion", "images": "real"}``.
    """

    model: "keras.Model"
    recipe: Recipe
    decision_rule: DecisionRule
    provenance: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides a probability: weights, recipe and decision rule, 64 hex digits."""
        digest = hashlib.sha256()
        for weight in self.model.weights:
            values = np.ascontiguousarray(weight.numpy())
            digest.update(f"{values.dtype}{values.shape}".encode())
            digest.update(values.tobytes())
        digest.update(self.recipe.digest.encode())
        digest.update(json.dumps(self.decision_rule.to_dict(), sort_keys=True).encode())
        return digest.hexdigest()

    def prepare(self, content: bytes) -> Prepared:
        """Turn the bytes of an image's file into the network's input, or say why that cannot be done.

        Returns:
            uint8 [size, size], or the refusal.
        """
        from cxr_pipeline.data.images.inference_inputs import prepare_content

        try:
            return prepare_content(content, self.recipe)
        except ImageRefused as refusal:
            return refusal

    def score(self, contents: Iterable[bytes], *, batch_size: int = 32) -> pd.DataFrame:
        """Judge images, given the bytes of their files.

        Returns:
            What ``judge`` returns.
        """
        return self.judge(map(self.prepare, contents), batch_size=batch_size)

    def judge(self, prepared: Iterable[Prepared], *, batch_size: int) -> pd.DataFrame:
        """Judge prepared images, a batch at a time: beside the rows, memory does not grow with their number.

        Args:
            prepared: what ``prepare`` returned for each image.
            batch_size: images that go through the network at once.

        Returns:
            A row per image, in order: ``probability`` in [0, 1] and ``decision`` (a class, or several joined by
            ``|``), both null where the image was refused; ``threshold``; ``status``, which is ``scored`` or
            ``refused``; ``reason`` of the refusal, else null. With several outputs there is a
            ``probability_<class>`` and a ``threshold_<class>`` for each.
        """
        images = iter(prepared)
        batches: Iterator[list[Prepared]] = iter(lambda: list(islice(images, batch_size)), [])
        tables = [self.judge_batch(batch) for batch in batches]
        return pd.concat(tables, ignore_index=True) if tables else self.judge_batch([])

    def judge_batch(self, prepared: Sequence[Prepared]) -> pd.DataFrame:
        """Judge images that go through the network at once; returns what ``judge`` does."""
        images = [image for image in prepared if not isinstance(image, ImageRefused)]
        y_score = self.model.predict_on_batch(np.stack(images)[..., np.newaxis]) if images else []
        return self.judge_scores(prepared, y_score)

    def judge_scores(self, prepared: Sequence[Prepared], y_score: ArrayLike) -> pd.DataFrame:
        """Judge images by the scores that the network gave to those that are not refused, [n, k]."""
        probability = np.full((len(prepared), len(self.decision_rule.outputs)), np.nan)
        decision = np.full(len(prepared), None, dtype=object)
        scored = [position for position, image in enumerate(prepared) if not isinstance(image, ImageRefused)]
        if scored:
            decisions = self.decision_rule.apply(np.asarray(y_score, dtype=np.float64))
            probability[scored], decision[scored] = decisions.probability, decisions.decision
        reasons = [image.reason if isinstance(image, ImageRefused) else None for image in prepared]
        outputs, thresholds = self.decision_rule.outputs, self.decision_rule.thresholds
        return pd.DataFrame(
            {
                **dict(zip(probability_columns(outputs), probability.T, strict=True)),
                "decision": pd.Series(decision, dtype="str"),
                **{
                    name: np.full(len(prepared), thresholds[output])
                    for name, output in zip(threshold_columns(outputs), outputs, strict=True)
                },
                "status": pd.Series(["scored" if reason is None else "refused" for reason in reasons], dtype="str"),
                "reason": pd.Series(reasons, dtype="str"),
            }
        )

    def save(self, folder: Path) -> None:
        """Write the classifier into a folder, the network without the state of its optimiser."""
        import keras

        folder.mkdir(parents=True)
        keras.Model(self.model.inputs, self.model.outputs, name=self.model.name).save(folder / _MODEL_FILE)
        settings = {
            "recipe": self.recipe.to_dict(),
            "decision_rule": self.decision_rule.to_dict(),
            "provenance": dict(self.provenance),
            "digest": self.digest,
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        (folder / _SETTINGS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "ImageClassifier":
        """Read a classifier that ``save`` wrote; no code comes out of its files.

        Raises:
            UserError: it would not give the probabilities that it gave when it was saved.
        """
        import keras

        settings = json.loads((folder / _SETTINGS_FILE).read_text(encoding="utf-8"))
        classifier = cls(
            model=keras.models.load_model(folder / _MODEL_FILE, compile=False, safe_mode=True),
            recipe=Recipe.from_dict(settings["recipe"]),
            decision_rule=rule_from_dict(settings["decision_rule"]),
            provenance=settings["provenance"],
        )
        if classifier.digest != settings["digest"]:
            raise UserError(
                "The model was saved by a version of this package that prepares images in another way, or its files "
                f"were changed since: expected the digest {settings['digest']}, found {classifier.digest}. Train it "
                "again, or serve it with the code that it brings along: mlflow models serve -m models:/NAME/VERSION."
            )
        return classifier
