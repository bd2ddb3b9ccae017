from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.deployment.scoring import FILM_SUFFIXES, find_films

KEY = "effusion.scoring.folder"

Draw = Callable[..., Path]


def test_every_film_below_the_folder_is_found_in_the_same_order(folder: Path, draw: Draw) -> None:
    names = [
        "b.png",
        "a.JPG",
        "ward 1/c.jpeg",
        "ward 1/deep/er/d.TIFF",
        "e.tif",
        "e/f.png",
        "e-1/f.png",
        "f.bmp",
        "g.WebP",
        "h.DCM",
        "i.dicom",
    ]
    for name in names:
        draw(name)
    for name in ["notes.txt", "report.pdf", ".hidden.png", ".cache/h.png", "png"]:
        draw(name)
    films = find_films(str(folder), key=KEY)
    assert [film.path for film in films] == sorted(names)
    assert {Path(film.path).suffix.lower() for film in films} == set(FILM_SUFFIXES)
    assert films.count() == len(names)


def test_a_draw_stays_the_same_as_films_come(folder: Path, draw: Draw) -> None:
    for number in range(40):
        draw(f"{number}.png")
    films = find_films(str(folder), key=KEY)
    first = {film.path for film in films.draw(10, seed=1)}
    assert first == {film.path for film in films.draw(10, seed=1)}
    assert first != {film.path for film in films.draw(10, seed=2)}
    assert len(films.draw(100, seed=1)) == 40
    for number in range(40, 80):
        draw(f"{number}.png")
    later = {film.path for film in films.draw(10, seed=1)}
    assert 0 < len(first & later) < 10
    assert all(int(Path(name).stem) >= 40 for name in later - first)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "effusion.scoring.folder is null"),
        ("", "effusion.scoring.folder is null"),
        ("absent", "found nothing at .*absent"),
        ("new/film.png", r"found a file at .*film\.png"),
        ("without", r"No film is below .*without .*\.png"),
    ],
)
def test_a_folder_without_films_is_a_mistake(
    tmp_path: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    draw("film.png")
    draw("notes.txt", below=tmp_path / "without")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=found) as raised:
        find_films(given, key=KEY)
    assert "--params effusion.scoring.folder=DIR" in str(raised.value)


def test_films_of_the_home_folder_are_found(folder: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    draw("film.png")
    monkeypatch.setenv("HOME", str(folder.parent))
    films = find_films("~/new", key=KEY)
    assert films.root == folder
    assert [film.path for film in films] == ["film.png"]
