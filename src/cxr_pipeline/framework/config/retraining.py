"""Parameters of retraining."""

from typing import Annotated, Literal

from pydantic import BeforeValidator

from cxr_pipeline.framework.config.parameters import Fraction, Parameters, without_nulls

# Metrics for which larger is better.
Floored = Literal[
    "auc", "average_precision", "accuracy", "balanced_accuracy", "sensitivity", "specificity", "precision", "f1"
]


class Retraining(Parameters):
    """Validation of changed data and the promotion rule.

    Args:
        floors: Smallest value of each metric on the challenger's test images; null disables a floor.
        sensitivity_margin: The lower end of the difference in sensitivity from the champion, each at its own
            frozen threshold, must be above minus this margin.
        auc_margin: The same for AUC, if not being worse is enough.
        improvement: ``better``: AUC must be significantly higher. ``better_or_newer``: or not worse, if the challenger
            was trained on images, labels or patients that the champion did not have.
        max_relabelled_fraction: Largest fraction of the champion's images that may have new labels; the run stops above
            it.
        on_drift: Action if the drift verdict on new images is ``refuse``: ``refuse`` stops the run; ``warn`` trains a
            challenger and records the verdict.
        force: Train and decide even if the data have not changed, for example after a change of parameters or of this
            rule.
    """

    floors: Annotated[dict[Floored, Fraction], BeforeValidator(without_nulls)]
    sensitivity_margin: Fraction
    auc_margin: Fraction
    improvement: Literal["better", "better_or_newer"]
    max_relabelled_fraction: Fraction
    on_drift: Literal["refuse", "warn"] = "refuse"
    force: bool
