"""A source in the layout ``nih``: images in two folders, official lists, one image missing, one named twice."""

from pathlib import Path

from . import draw_image

N_ROWS = 8
HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
LABELS = ("Effusion|Mass", "No Finding", "Hernia", "Effusion", "Pleural_Thickening", "No Finding", "Edema")


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    images = [f"{number:08d}_000.png" for number in range(1, len(LABELS) + 1)]
    rows = [
        f"{image},{label},0,{number},058Y,F,PA"
        for number, (image, label) in enumerate(zip(images, LABELS, strict=True), 1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Data_Entry_2017.csv").write_text("\n".join([HEADER, *rows, rows[0]]) + "\n")
    (folder / "train_val_list.txt").write_text("\n".join(images[:4]))
    (folder / "test_list.txt").write_text("\n".join(images[4:]))
    for number, image in enumerate(images[:-1]):
        draw_image(folder / ("images_001/images" if number < 3 else "images_002/images") / image, number)
    return folder, {}
