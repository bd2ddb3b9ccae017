"""When a challenger takes the champion's place."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, without_nulls

# Metrics of which more is better.
Floored = Literal[
    "auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1"
]


class Retraining(Parameters):
    """The promotion rule of a task.

    Args:
        floors: the least value of a metric on the challenger's test images; one that is null is switched off.
        sensitivity_margin: how much sensitivity may be lost: the lower end of the difference from the champion's,
            each at its own frozen threshold, must lie above minus this.
        auc_margin: the same of AUC, where being as good is enough.
        improvement: ``better``, AUC must be higher with confidence; ``better_or_newer``, or not worse and learned
            from images or labels that the champion did not have.
        max_relabelled_fraction: how many of the images that the champion knew may have other labels than it learned;
            the run stops if there are more.
        on_drift: what happens where new images are so unlike the champion's own that the verdict of ``drift.limits``
            is ``refuse``: ``refuse``, the run stops; ``warn``, a challenger is trained and the verdict recorded.
        force: train and decide even if no image or label is new: after a change of parameters, or of this rule.
    """

    floors: Annotated[dict[Floored, Fraction], BeforeValidator(without_nulls)]
    sensitivity_margin: Fraction
    auc_margin: Fraction
    improvement: Literal["better", "better_or_newer"]
    max_relabelled_fraction: Fraction
    on_drift: Literal["refuse", "warn"] = "refuse"
    force: bool
