"""A source in the layout ``dicom_folder``: images named in five ways, one missing, one of a leg, one truncated."""

import warnings

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

N_ROWS = 11
TABLE = """image,Mass,Edema,view
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


def write_dicom(path, number, **elements):
    """Write an image whose pixels differ for each number."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", f"1.2.3.{number}"
    image.SpecificCharacterSet = "ISO_IR 192"
    image.PatientName, image.PatientID = "Doe^Jane", f"MRN{number // 2}"
    image.PatientAge, image.PatientSex, image.ViewPosition = f"0{number + 30}Y", "FM"[number % 2], "PA"
    image.Modality, image.BodyPartExamined, image.PhotometricInterpretation = "DX", "CHEST", "MONOCHROME2"
    image.Rows, image.Columns, image.SamplesPerPixel = 40, 32, 1
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.PixelData = np.random.default_rng(number).integers(0, 4096, (40, 32), dtype=np.uint16).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.update(elements)
        pydicom.dcmwrite(path, image, enforce_file_format=True)


def write(folder):
    names = ("a/1.dcm", "a/2.DCM", "b/3.dicom", "b/4", "IM5", "c/1.2.840.6", "leg.dcm", "a/twice.dcm", "b/twice.dcm")
    for number, name in enumerate(names, start=1):
        write_dicom(folder / name, number)
    write_dicom(folder / "leg.dcm", 7, BodyPartExamined="LEG")
    (folder / "short.dcm").write_bytes((folder / "a/1.dcm").read_bytes()[:100])
    (folder / "README").write_text("no image")
    (folder / "labels.csv").write_text(TABLE)
    return folder, {"table": "labels.csv", "columns": {"image": "image", "one_hot": ("Mass", "Edema"), "view": "view"}}
