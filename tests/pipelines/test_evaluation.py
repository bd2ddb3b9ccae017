"""Scores of test images."""

import numpy as np
from manifests import images
from shipped import parameters_of
from stub_models import fixed_rule, grey_network

from cxr_pipeline.data.images.recipe import Recipe
from cxr_pipeline.data.images.store import PreparedImages
from cxr_pipeline.framework import config
from cxr_pipeline.pipelines.evaluation import score_test


def test_test_images_seen_in_pretraining_are_not_scored(tmp_path):
    task = {"name": "ill", "title": "Ill", "kind": "binary", "classes": {"well": ["well"], "ill": ["ill"]}}
    manifest = images(["a", "b", "c", "d"])
    splits = manifest[["source", "image"]].assign(split=["train", "test", "test", "test"])
    recipe = Recipe(size=32, mode="fit", max_megapixels=1.0)
    prepared = PreparedImages(tmp_path, recipe)
    prepared._images.write(manifest["sha256"].tolist(), np.full((4, 32, 32), 51, np.uint8))
    blocks = parameters_of()
    augmentation = config.Augmentation(**blocks["augmentation"])
    evaluation = config.Evaluation(**{**blocks["evaluation"], "views": 1})
    rule = fixed_rule(("well", "ill")).to_dict()
    for seen, expected in (({}, [1, 2, 3]), ({"seen": [manifest["sha256"][2]]}, [1, 3])):
        scores = score_test(
            grey_network(32), rule, prepared, manifest, splits, seen, config.Task(**task), augmentation, evaluation
        )
        assert scores["sha256"].tolist() == manifest["sha256"][expected].tolist()
        np.testing.assert_allclose(scores["score_ill"], 0.2, rtol=1e-6)
