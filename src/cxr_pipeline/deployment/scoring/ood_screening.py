"""Whether the images that are scored are like those that the model comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxr_pipeline.common.errors import ImageRefused
from cxr_pipeline.data.image_folder import ImageFile, ImageFolder
from cxr_pipeline.deployment.classifier import ImageClassifier, Prepared, probability_columns
from cxr_pipeline.deployment.drift.feature_extraction import add_feature_output
from cxr_pipeline.deployment.drift.image_features import ImageFeatures
from cxr_pipeline.deployment.drift.outliers import OutlierDetector
from cxr_pipeline.deployment.drift.pixel_statistics import STATISTICS, image_statistics
from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile
from cxr_pipeline.deployment.scoring.predictions import OBSERVED, UNLIKE

FLAG, REFUSE, IGNORE = "flag", "refuse", "ignore"
Unlike = Literal["flag", "refuse", "ignore"]


class Lookout:
    """Looks at images on their way through the network: at each alone, and at some of them for a verdict on all.

    Args:
        classifier: what scores the images.
        profile: of the images that it comes from.
        unlike: what becomes of an image that is unlike these: ``flag``, it is scored and has a reason all the same;
            ``refuse``, it is not scored; ``ignore``, nothing.
        false_alarms: see `OutlierDetector`.
        min_images: see `OutlierDetector`.
        max_images: so many are looked at for the verdict on all.
        seed: of their draw.
    """

    def __init__(
        self,
        classifier: ImageClassifier,
        profile: ReferenceProfile,
        *,
        unlike: Unlike,
        false_alarms: float,
        min_images: int,
        max_images: int,
        seed: int,
    ) -> None:
        self._classifier, self.profile = classifier, profile
        self._unlike, self._max_images, self._seed = unlike, max_images, seed
        self._both = add_feature_output(classifier.model)
        self.likeness = OutlierDetector(profile, false_alarms=false_alarms, min_images=min_images)
        self._decisive = (unlike, false_alarms, min_images)
        n_features = int(self._both.outputs[0].shape[-1])
        self._seen = np.dtype(
            [
                ("statistics", np.float32, (len(STATISTICS),)),
                ("features", np.float32, (n_features,)),
                ("probability", np.float64, (len(profile.outputs),)),
            ]
        )

    @cached_property
    def setting(self) -> list[Any]:
        """What, beside an image and the classifier, decides its row, as JSON types."""
        digest = hashlib.sha256()
        for name, values in sorted(self.profile.to_arrays().items()):
            digest.update(name.encode() + values.tobytes())
        return [*self._decisive, digest.hexdigest()]

    def draw(self, images: ImageFolder) -> list[ImageFile]:
        """Draw the images for the verdict on all."""
        return images.sample(self._max_images, seed=self._seed)

    def judge(self, prepared: Sequence[Prepared], drawn: Sequence[bool]) -> pd.DataFrame:
        """Judge images that go through the network at once.

        Args:
            prepared: what ``ImageClassifier.prepare`` returned for each image.
            drawn: whether it is one of those for the verdict on all.

        Returns:
            What ``ImageClassifier.judge_batch`` does, and ``OBSERVED``: of an image that is drawn what was seen, empty
            where it could not be prepared; null of others.
        """
        usable = np.array([not isinstance(image, ImageRefused) for image in prepared], np.bool_)
        observed = np.where(drawn, b"", np.array(None, dtype=object))
        if not usable.any():
            return self._classifier.judge_batch(prepared).assign(**{OBSERVED: observed})
        images = np.stack([image for image in prepared if not isinstance(image, ImageRefused)])
        features, scores = self._both.predict_on_batch(images[..., np.newaxis])
        table = self._classifier.judge_scores(prepared, scores)
        seen = np.empty(len(images), self._seen)
        seen["statistics"], seen["features"] = image_statistics(images), features
        seen["probability"] = table.loc[usable, probability_columns(self.profile.outputs)]
        unlike = np.zeros(len(prepared), np.bool_)
        if self._unlike != IGNORE:
            unlike[usable] = self.likeness.is_outlier(seen["statistics"], seen["features"])
        for place, image in zip(np.flatnonzero(usable).tolist(), seen, strict=True):
            if drawn[place]:
                observed[place] = image.tobytes()
        return self._marked(table, unlike).assign(**{OBSERVED: observed})

    def observed(self, seen: Sequence[bytes]) -> ImageFeatures:
        """Put together what ``judge`` has seen of single images; nothing is known of their labels and sources."""
        images: NDArray[Any] = np.frombuffer(b"".join(seen), self._seen)
        arrays = {name: images[name] for name in images.dtype.names or ()}
        y_true = np.full(arrays["probability"].shape, np.nan)
        return ImageFeatures(**arrays, y_true=y_true, source=np.full(len(images), ""))

    def _marked(self, table: pd.DataFrame, unlike: NDArray[np.bool_]) -> pd.DataFrame:
        table.loc[unlike, "reason"] = UNLIKE
        if self._unlike == REFUSE:
            table.loc[unlike, "status"] = "refused"
            table.loc[unlike, probability_columns(self.profile.outputs)] = np.nan
            table.loc[unlike, "decision"] = None
        return table
