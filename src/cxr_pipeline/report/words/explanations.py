"""What a report says of the maps that show where a model looks.

``explanations`` is the JSON document of a run: ``method``, ``layer``, ``localisation`` by class, ``randomised``.
"""

from collections.abc import Mapping
from typing import Any

from cxr_pipeline.report.words.text import of_100, value_of

SAME_MAPS = 0.5

Document = Mapping[str, Any]


def where_it_looks(explanations: Document) -> list[str]:
    """How the maps were made, whether they find the boxes, and whether they depend on the weights."""
    made = f"The maps are made by {explanations['method']} from the layer {explanations['layer']}."
    found = [_found(name, measured) for name, measured in explanations.get("localisation", {}).items()]
    return [sentence for sentence in (made, *found, _shuffled(explanations.get("randomised"))) if sentence]


def _found(name: str, measured: Document) -> str | None:
    """How often the hottest point lies in a box, against a blob in the middle of the image."""
    hits, low, centred = (
        value_of(measured, "pointing_game"),
        value_of(measured, "pointing_game", "low"),
        value_of(measured, "pointing_game_centred"),
    )
    if hits is None:
        return None
    sentence = f"For {name} the hottest point lies in a box that a reader drew in about {of_100(hits)} of 100 images"
    if centred is None:
        return f"{sentence}."
    verdict = "it looks better than that" if low is not None and low > centred else "that is not shown to be better"
    return f"{sentence}; the middle of the image would in {of_100(centred)}: {verdict}."


def _shuffled(randomised: Document | None) -> str | None:
    """Whether the maps survive shuffled weights.

    References:
        Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    correlation = value_of(randomised or {}, "rank_correlation")
    if randomised is None or correlation is None:
        return None
    measured = f"(rank correlation {correlation:.2f}, mean of {randomised['n_shuffles']} shuffles)"
    if correlation >= SAME_MAPS:
        return (
            f"The maps do not depend on the weights: they explain nothing. They stay much the same when the weights "
            f"are shuffled {measured}."
        )
    shuffled = value_of(randomised, "pointing_game")
    also = "" if shuffled is None else f"; the hottest point then lies in a box in {of_100(shuffled)} of 100 images"
    return f"The maps change when the weights are shuffled {measured}{also}."
