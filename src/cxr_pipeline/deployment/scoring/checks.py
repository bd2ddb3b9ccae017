"""Whether a model can score images of a task."""

from collections.abc import Sequence

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.classifier import ImageClassifier


def check_classes(classifier: ImageClassifier, kind: str, classes: Sequence[str], *, key: str) -> None:
    """Check that a classifier decides between the classes of the task, and in its kind.

    Raises:
        UserError: it was trained for another task.
    """
    rule = classifier.decision_rule
    if (rule.kind, list(rule.classes)) != (kind, list(classes)):
        raise UserError(
            f"The model named by {key} decides between {', '.join(rule.classes)} ({rule.kind}); expected "
            f"one that decides between {', '.join(classes)} ({kind}). Name a model of this task, or none for "
            "the one in use."
        )
