"""Manifests of images with and without a finding."""

import pandas as pd


def images(patients, ill=None, given=None, source="images", start=0):
    """Return a manifest with one row per given patient; contents are numbered from ``start``."""
    numbers = range(start, start + len(patients))
    positive = pd.Series(ill if ill is not None else [number % 2 for number in numbers], dtype="float64")
    return pd.DataFrame(
        {
            "source": source,
            "image": [f"{number}.png" for number in numbers],
            "sha256": [f"{number:064x}" for number in numbers],
            "patient_id": pd.Series(patients, dtype="str"),
            "label_well": 1 - positive,
            "label_ill": positive,
            "given_split": pd.Series(given if given is not None else [None] * len(patients), dtype="str"),
        }
    )
