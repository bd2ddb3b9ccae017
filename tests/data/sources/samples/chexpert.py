"""A source in the layout ``chexpert``: frontal and lateral images, one missing, one with an invalid cell."""

import pandas as pd

from cxr_pipeline.data.sources.chexpert import LABELS

from . import draw_image

N_ROWS = 8
ABOUT = {"Sex": "Female", "Age": "68", "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
LATERAL = {"Frontal/Lateral": "Lateral", "AP/PA": None}


def image(number, view="view1_frontal", part="train"):
    return f"{part}/patient{number:05d}/study1/{view}.jpg"


def row(path, release="CheXpert-v1.0-small/", **cells):
    """Return a row of a table; labels are named with underscores for spaces, other columns in ``about``."""
    about = cells.pop("about", {})
    return {"Path": release + path, **ABOUT, **about, **{name.replace("_", " "): cell for name, cell in cells.items()}}


def write_table(folder, *rows, table="train.csv", below="", lost=0):
    """Write a table and its images, except for the last ``lost``."""
    for number, written in enumerate(rows[: len(rows) - lost]):
        draw_image(folder / below / str(written["Path"]).partition("/")[2], number)
    pd.DataFrame(rows).reindex(columns=["Path", *ABOUT, *LABELS]).to_csv(folder / table, index=False)
    return folder


def write(folder):
    frontal = [row(image(1), Edema=1.0), row(image(2), No_Finding=1.0), row(image(3), Pneumonia=-1.0), row(image(4))]
    lateral = row(image(2, "view2_lateral"), about=LATERAL)
    write_table(folder, *frontal, lateral, row(image(5), Edema="perhaps"), row(image(6), Edema=1.0), lost=1)
    write_table(folder, row(image(64541, part="valid"), Edema=0.0), table="valid.csv")
    return folder, {"blank": "negative", "frontal_only": False}
