"""A source in the layout ``chexpert``: frontal and lateral images, one missing, one with an invalid cell."""

from pathlib import Path

from . import draw_image

N_ROWS = 9
LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
HEADER = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{LABELS}"
TRAIN = (
    ("patient00001/study1/view1_frontal.jpg", "Female,68,Frontal,AP", "1.0,,,,,,,,,0.0,,,,1.0"),
    ("patient00002/study1/view1_frontal.jpg", "Male,87,Frontal,PA", ",,-1.0,1.0,,-1.0,-1.0,,-1.0,,1.0,,,"),
    ("patient00002/study2/view1_frontal.jpg", "Male,87,Frontal,AP", ",,,1.0,,,-1.0,,,0.0,,,1.0,"),
    ("patient00002/study2/view2_lateral.jpg", "Male,87,Lateral,", ",,,1.0,,,-1.0,,,0.0,,,1.0,"),
    ("patient00003/study1/view1_frontal.jpg", "Male,41,Frontal,AP", ",,,,,1.0,,,,0.0,,,,"),
    ("patient00004/study1/view1_frontal.jpg", "Female,20,Frontal,PA", ",,,,,0.0,,,,0.0,,,,"),
    ("patient00005/study1/view1_frontal.jpg", "Female,20,Frontal,PA", ",,,,,perhaps,,,,0.0,,,,"),
    ("patient00006/study1/view1_frontal.jpg", "Female,20,Frontal,PA", ",,,,,1.0,,,,0.0,,,,"),
)
VALID = (
    (
        "patient64541/study1/view1_frontal.jpg",
        "Male,73,Frontal,AP",
        "0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
    ),
)
MISSING = "patient00006"


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    for part, rows in (("train", TRAIN), ("valid", VALID)):
        for number, (image, _, _) in enumerate(rows):
            if not image.startswith(MISSING):
                draw_image(folder / part / image, number + 100 * len(part))
        lines = [f"CheXpert-v1.0-small/{part}/{','.join(row)}" for row in rows]
        (folder / f"{part}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return folder, {"blank": "negative", "frontal_only": True}
