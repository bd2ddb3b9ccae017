"""The page of ``kedro reader``, a Streamlit script: drop an image, see its probability, decision and heat map.

Uploaded images stay in the memory of this process: nothing is written, and no file name is logged.
"""

import sys
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cxr_pipeline.common.errors import ImageRefused, Unavailable, UserError
from cxr_pipeline.deployment.classifier import Prepared, output_columns
from cxr_pipeline.deployment.heatmaps import HeatMaps
from cxr_pipeline.framework.prediction import FileClassifier, load_classifier
from cxr_pipeline.tracking.versions import description_of

_REASONS = {
    "out_of_distribution": "This image differs from the training images: its result may be wrong.",
    "unreadable": "The file cannot be read.",
    "truncated": "The file is incomplete.",
    "empty": "The image has no content.",
    "too_large": "The image is too large.",
    "too_small": "The image is too small.",
    "not_chest": "The image is not a chest X-ray.",
}


@st.cache_resource(show_spinner="Loading the model")
def load(task: str, env: str | None, model: str | None) -> tuple[FileClassifier, HeatMaps, str]:
    """Load the classifier once for all browsers."""
    classifier = load_classifier(task, version=model, env=env)
    return classifier, HeatMaps(classifier.classifier), description_of(classifier.version)


def show(name: str, content: bytes, classifier: FileClassifier, maps: HeatMaps) -> None:
    """Show one image and its result."""
    prepared = classifier.prepare(content)
    table = classifier.score([prepared])
    row = table.iloc[0]
    st.subheader(name)
    if isinstance(prepared, ImageRefused):
        st.error(f"Refused. {_REASONS.get(row['reason'], row['reason'])} ({row['detail']})")
        return
    pictures, result = st.columns([2, 1])
    with pictures:
        show_pictures(prepared, table, maps)
    with result:
        show_result(row, classifier)


def show_pictures(prepared: Prepared, table: pd.DataFrame, maps: HeatMaps) -> None:
    """Show the input of the network and, if the image was scored, the heat map over it."""
    (picture,) = maps.draw([prepared], table)
    left, right = st.columns(2)
    left.image(np.asarray(prepared), caption="Input of the network", width="stretch")
    if picture is not None:
        right.image(picture, caption="Heat map: regions that raised the score", width="stretch")


def show_result(row: Any, classifier: FileClassifier) -> None:
    """Show the decision, the probability of each output with its threshold, and flags."""
    outputs = classifier.classifier.decision_rule.outputs
    if row["status"] == "refused":
        st.error(f"Refused. {_REASONS.get(str(row['reason']), row['reason'])}")
        return
    st.metric("Decision", str(row["decision"]).replace("|", ", "))
    columns = {quantity: output_columns(quantity, outputs) for quantity in ("probability", "threshold")}
    values = {quantity: [f"{value:.3f}" for value in row[names]] for quantity, names in columns.items()}
    st.table(pd.DataFrame(values, index=pd.Index(outputs, name="class")))
    if isinstance(row["reason"], str):
        st.warning(_REASONS.get(row["reason"], row["reason"]))


def main(task: str, env: str, model: str) -> None:
    """Draw the page. Empty texts stand for no environment and for the champion."""
    st.set_page_config(f"{task}: reader", layout="wide")
    st.title(task.replace("_", " ").capitalize())
    st.caption("For research use only. This is not a medical device. Do not use it to make decisions about a patient.")
    try:
        classifier, maps, description = load(task, env or None, model or None)
    except (UserError, Unavailable) as error:
        st.error(str(error))
        st.stop()
    st.write(f"{classifier.version.uri}, {classifier.chosen}.")
    if classifier.classifier.provenance.get("images") == "phantom":
        st.warning("This model was trained on phantoms. Its results for images of patients are meaningless.")
    with st.expander("What the model card says"):
        st.markdown(description)
    for file in st.file_uploader("Images: PNG, JPEG, TIFF, BMP, WEBP or DICOM", accept_multiple_files=True):
        show(file.name, file.getvalue(), classifier, maps)


if __name__ == "__main__":
    main(*sys.argv[1:])
