"""What the pretrained weights of a network were trained on, and which images of a task that concerns."""

from typing import Any

import pandas as pd

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.data.pretraining import collection_of, listed_images, read_list, shared_sources
from cxr_pipeline.data.splits import select_split
from cxr_pipeline.deployment.data_changes import PATIENT, hash_patients, label_columns, learned_from
from cxr_pipeline.framework.config import Folders, Network, Sources, plain
from cxr_pipeline.framework.config.network import pinned_version, read_card
from cxr_pipeline.training.networks.weights import find_weights, is_version

# Tag of a version: the collections that its weights were trained on before, separated by commas.
PRETRAINED_ON = "pretrained_on"


def describe_pretraining(
    network: Network, manifest: pd.DataFrame, splits: pd.DataFrame, *, sources: Sources, folders: Folders
) -> dict[str, Any]:
    """Describe the pretrained weights of a network, and find the images of the task that they were trained on.

    Returns:
        ``weights``, their ``source`` and ``licence``, the collections that they were ``trained_on``, the SHA-256 of the
        test images ``seen`` in pretraining, the number ``n_seen_outside_test`` of others, and the ``unlisted`` sources,
        of which any image may have been seen. Empty without pretrained weights and for those of ImageNet.

    Raises:
        UserError: the network starts from a registered version that was trained on test images; a list that the card of
            a weights file names cannot be read; or too few test images are left.
    """
    if network.weights == "imagenet":
        return {}
    paths = {name: (source.layout, folders.raw / source.path) for name, source in sources.root.items()}
    collections = {name: collection_of(*place) for name, place in paths.items()}
    if is_version(network.weights):
        return _describe_version(network.weights, manifest, splits, collections=collections, folders=folders)
    file = find_weights(network.name, network.weights, folders.raw)
    if file is None:
        return {}
    card = read_card(file)
    shared = shared_sources(card.trained_on, collections)
    concerned = manifest[manifest["source"].isin(shared)]
    lists = {name: read_list(file.parent / entry) for name, entry in card.lists.items()}
    seen = concerned[listed_images(concerned, **lists)] if lists else concerned.head(0)
    test = select_split(manifest, splits, "test")
    seen_test = test[test["sha256"].isin(seen["sha256"])]
    _check_left(test, test.drop(seen_test.index), file.name)
    return {
        "weights": file.name,
        **plain(card),
        "seen": sorted(seen_test["sha256"]),
        "n_seen_outside_test": len(seen) - len(seen_test),
        # A list without any image of a source is probably that of another collection.
        "unlisted": [source for source in shared if not (seen["source"] == source).any()],
    }


def _check_left(test: pd.DataFrame, left: pd.DataFrame, weights: str) -> None:
    labels = [column for column in label_columns(test) if test[column].eq(1).any()]
    lost = [column.removeprefix("label_") for column in labels if not left[column].eq(1).any()]
    if left.empty or lost:
        raise UserError(
            f"{len(test) - len(left)} of {len(test)} test images were used to train {weights}, so that "
            f"{', '.join(lost) or 'the task'} cannot be tested. Add images of other patients, or use other weights: "
            "model.weights=imagenet"
        )


def _describe_version(
    uri: str, manifest: pd.DataFrame, splits: pd.DataFrame, *, collections: dict[str, str | None], folders: Folders
) -> dict[str, Any]:
    from cxr_pipeline.tracking import artifacts, versions

    version = pinned_version(uri)
    used = artifacts.images_of_run(version.run_id)
    if used is None:
        raise UserError(
            f"model.weights: the run of {version.uri} has no list of its images, so that it may have been trained on "
            "test images. Use a version that this project registered, or other weights: model.weights=imagenet"
        )
    images = manifest
    if version.name and version.version and artifacts.hashed_with(version.name, version.version, folders.patient_key):
        images = images.assign(**{PATIENT: hash_patients(images, folders.patient_key)})
    test = select_split(images, splits, "test")
    if n_seen := int(learned_from(test, used, splits).sum()):
        raise UserError(
            f"model.weights: {version.uri} was trained on {n_seen} of {len(test)} test images, or on other images of "
            "their patients, so that the test metrics would be too good. Nothing was trained. Use a version that was "
            "not trained on these patients, or other weights: model.weights=imagenet"
        )
    earlier = versions.tags_of(version).get(PRETRAINED_ON, "")
    return {
        "weights": version.uri,
        "source": "a version of this project",
        "licence": "",
        "trained_on": earlier.split(",") if earlier else [],
        "seen": [],
        "n_seen_outside_test": int(learned_from(images, used, splits).sum()),
        "unlisted": shared_sources(earlier.split(","), collections) if earlier else [],
    }
