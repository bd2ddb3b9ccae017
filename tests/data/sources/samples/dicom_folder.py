"""A source in the layout ``dicom_folder``: films named in five ways, one missing, one of a leg, one that is cut."""

import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

N_ROWS = 11
TABLE = """film,Mass,Edema,view
a/1.dcm,1,0,PA
2.DCM,0,0,
b/3,-1,1,
4,,1,AP
1.2.3.5,1,1,
1.2.3.6,0,0,
leg.dcm,1,0,
short.dcm,1,0,
gone.dcm,1,0,
../labels.csv,1,0,
twice.dcm,1,0,
"""


def write_dicom(path: Path, number: int, **elements: object) -> None:
    """Write a film whose pixels no other number gives."""
    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.3.{number}"
    film.SpecificCharacterSet = "ISO_IR 192"
    film.PatientName, film.PatientID = "Doe^Jane", f"MRN{number // 2}"
    film.PatientAge, film.PatientSex, film.ViewPosition = f"0{number + 30}Y", "FM"[number % 2], "PA"
    film.Modality, film.BodyPartExamined, film.PhotometricInterpretation = "DX", "CHEST", "MONOCHROME2"
    film.Rows, film.Columns, film.SamplesPerPixel = 40, 32, 1
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = np.random.default_rng(number).integers(0, 4096, (40, 32), dtype=np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        film.update(elements)
        pydicom.dcmwrite(path, film, enforce_file_format=True)


def write(folder: Path) -> tuple[Path, dict[str, object]]:
    names = ("a/1.dcm", "a/2.DCM", "b/3.dicom", "b/4", "IM5", "c/1.2.840.6", "leg.dcm", "a/twice.dcm", "b/twice.dcm")
    for number, name in enumerate(names, start=1):
        write_dicom(folder / name, number)
    write_dicom(folder / "leg.dcm", 7, BodyPartExamined="LEG")
    (folder / "short.dcm").write_bytes((folder / "a/1.dcm").read_bytes()[:100])
    (folder / "README").write_text("no film")
    (folder / "labels.csv").write_text(TABLE)
    (folder / ".pseudonym_key").write_text("a key that the other place has too")
    return folder, {"table": "labels.csv", "columns": {"image": "film", "one_hot": ("Mass", "Edema"), "view": "view"}}
