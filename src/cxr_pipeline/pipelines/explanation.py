"""The explanation stage."""

from typing import Any

import pandas as pd

from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.data.sources.nih import read_boxes
from cxr_pipeline.evaluation.localisation import boxes_of, choose_explained
from cxr_pipeline.evaluation.score_tables import Scores
from cxr_pipeline.framework.config import Evaluation, Folders, Sources, Task
from cxr_pipeline.pipelines.stage import Pipeline, node, stage
from cxr_pipeline.report.figures.images import choose_images, heatmap_grid


def find_boxes(
    manifest: pd.DataFrame, test_scores: pd.DataFrame, sources: Sources, folders: Folders, task: Task
) -> pd.DataFrame:
    """Read the boxes of the test images, with the class of each finding."""
    images = manifest[manifest["sha256"].isin(test_scores["sha256"])]
    boxes = read_boxes({name: folders.raw / source.path for name, source in sources.root.items()}, images)
    return boxes.assign(**{"class": boxes["finding"].map(task.labels.class_of).astype("str")})


def explain_test(
    model: Any,
    enhanced_images: PreparedImages,
    test_scores: pd.DataFrame,
    boxes: pd.DataFrame,
    task: Task,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Compare the model's heat maps with boxes and with heat maps of shuffled weights."""
    from cxr_pipeline.evaluation.grad_cam import explain_images

    explained = choose_explained(test_scores, boxes, task.outputs)
    return explain_images(
        model, enhanced_images, explained, boxes, seed=evaluation.seed, confidence=evaluation.confidence
    )


def draw_heatmaps(
    model: Any, enhanced_images: PreparedImages, test_scores: pd.DataFrame, boxes: pd.DataFrame, task: Task
) -> dict[str, bytes]:
    """Draw, for each output, heat maps of correctly and incorrectly classified images."""
    from cxr_pipeline.evaluation.grad_cam import GradCam

    scores, cam = Scores.from_table(test_scores, task.outputs), GradCam(model)
    pictures = {}
    for place, output in enumerate(task.outputs):
        chosen = choose_images(scores.y_true[:, place], scores.probability[:, place], scores.predicted[:, place])
        sha256s = test_scores["sha256"].iloc[chosen["position"]].tolist()
        images = enhanced_images.read(sha256s)
        drawn = boxes_of(boxes, sha256s, [output] * len(sha256s))
        pictures[f"heatmaps_{output}"] = heatmap_grid(chosen, images, cam.heatmaps(images, place), drawn)
    return pictures


def create_pipeline() -> Pipeline:
    """Create the stage from the model and its decisions on the test images to heat maps."""
    return stage(
        "explanation",
        node(find_boxes, "boxes"),
        node(explain_test, "explanations"),
        node(draw_heatmaps, "heatmaps"),
    )
