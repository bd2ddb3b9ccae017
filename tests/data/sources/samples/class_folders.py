"""A source in the layout ``class_folders``: split folders above classes, two suffixes, and system files."""

from . import draw_image

N_ROWS = 9


def write(folder):
    images = [
        f"{split}/{label}/p{n}_{label}.png" for split in ("train", "val") for label in ("ill", "well") for n in (1, 2)
    ]
    for number, image in enumerate([*images, "test/ill/p3_late.jpg"]):
        draw_image(folder / image, number)
    (folder / "train" / "ill" / ".DS_Store").write_bytes(b"litter")
    (folder / "README.txt").write_text("no image")
    return folder, {"patient_id": r"^(p\d+)_"}
