"""A source in the layout ``class_folders``: split folders above classes, two suffixes, and litter."""

from pathlib import Path

from . import draw_film

N_ROWS = 9


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    films = [
        f"{split}/{label}/p{n}_{label}.png" for split in ("train", "val") for label in ("ill", "well") for n in (1, 2)
    ]
    for number, film in enumerate([*films, "test/ill/p3_late.jpg"]):
        draw_film(folder / film, number)
    (folder / "train" / "ill" / ".DS_Store").write_bytes(b"litter")
    (folder / "README.txt").write_text("no film")
    return folder, {"patient_id": r"^(p\d+)_"}
