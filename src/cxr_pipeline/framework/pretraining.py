"""What the pretrained weights of a network were trained on, and which test images that concerns."""

from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.pretraining import collection_of, read_list, seen_images, shared_sources
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment.data_changes import PATIENT, hash_patients, learned_from
from cxr_pipeline.framework.config import Folders, Network, Sources, plain
from cxr_pipeline.framework.config.network import pinned_version, read_card
from cxr_pipeline.training.networks.weights import find_weights, is_version


def describe_pretraining(
    network: Network, manifest: pd.DataFrame, splits: pd.DataFrame, *, sources: Sources, folders: Folders
) -> dict[str, Any]:
    """Describe the pretrained weights of a network, and find the test images that they were trained on.

    Returns:
        ``weights``, their ``source`` and ``licence``, the collections that they were ``trained_on``, the SHA-256 of the
        test images ``seen`` in pretraining, and the ``unlisted`` sources, of which any image may have been seen. Empty
        without pretrained weights and for those of ImageNet.

    Raises:
        UserError: the network starts from a registered version that was trained on test images, or a file that the card
            of the weights names cannot be read.
    """
    if network.weights == "imagenet":
        return {}
    if is_version(network.weights):
        return _describe_version(network.weights, manifest, splits, folders)
    file = find_weights(network.name, network.weights, folders.raw)
    if file is None:
        return {}
    card = read_card(file)
    paths = {name: (source.layout, folders.raw / source.path) for name, source in sources.root.items()}
    shared = shared_sources(card.trained_on, {name: collection_of(*place) for name, place in paths.items()})
    lists = {name: read_list(file.parent / entry) for name in ("images", "patients") if (entry := getattr(card, name))}
    seen = seen_images(manifest, splits, sources=shared, **lists)
    test = select_split(manifest, splits, "test")
    if len(seen) == len(test):
        raise UserError(
            f"All {len(test)} test images were used to train {file}, so that nothing is left to test on. Add images of "
            "other patients, or use other weights: model.weights=imagenet"
        )
    return {
        "weights": file.name,
        **plain(card),
        "seen": seen,
        "unlisted": [] if lists else shared,
    }


def _describe_version(uri: str, manifest: pd.DataFrame, splits: pd.DataFrame, folders: Folders) -> dict[str, Any]:
    from cxr_pipeline.tracking import artifacts, versions

    version = versions.resolve_version(pinned_version(uri))
    used = artifacts.images_of_run(version.run_id)
    if used is None:
        raise UserError(
            f"model.weights: the run of {version.uri} has no list of its images, so that it may have been trained on "
            "test images. Use a version that this project registered, or other weights: model.weights=imagenet"
        )
    test = select_split(manifest, splits, "test")
    if version.name and version.version and artifacts.hashed_with(version.name, version.version, folders.patient_key):
        test = test.assign(**{PATIENT: hash_patients(test, folders.patient_key)})
    if n_seen := int(learned_from(test, used, splits).sum()):
        raise UserError(
            f"model.weights: {version.uri} was trained on {n_seen} of {len(test)} test images, or on other images of "
            "their patients, so that the test metrics would be too good. Nothing was trained. Use a version of a task "
            "with the same splits or without these images, or other weights: model.weights=imagenet"
        )
    return {
        "weights": version.uri,
        "source": "this project",
        "licence": "",
        "trained_on": [],
        "seen": [],
        "unlisted": [],
    }
