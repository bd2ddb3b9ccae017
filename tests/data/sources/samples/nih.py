"""A source in the layout ``nih``: images in two folders, official lists, one image missing, one named twice."""

from . import draw_image

N_ROWS = 9
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width"
)
ROWS = (
    "00000001_000.png,Effusion|Mass,0,1,058Y,M,PA,2682",
    "00000001_001.png,No Finding,1,1,58,M,AP,2682",
    "00000002_000.png,Hernia,0,2,414,F,PA,2500",
    "00000003_000.png,  ,0,3,006M,,,2500",
)


def write_release(folder, rows=ROWS, header=HEADER, on_disk=3):
    """Write a label table, and the images of its first rows."""
    for number, row in enumerate(rows[:on_disk]):
        draw_image(folder / "images" / row.partition(",")[0], number)
    (folder / "Data_Entry_2017.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def write(folder):
    images = [f"{number:08d}_000.png" for number in range(4, 8)]
    more = [f"{image},Edema,0,{number},058Y,F,PA,2500" for number, image in enumerate(images, 4)]
    write_release(folder, (*ROWS, *more, ROWS[0]), on_disk=4)
    for number, image in enumerate(images[:-1], 4):
        draw_image(folder / "images_002" / "images" / image, number)
    (folder / "train_val_list.txt").write_text("\n".join(row.partition(",")[0] for row in ROWS))
    (folder / "test_list.txt").write_text("\n".join(images))
    return folder, {}
