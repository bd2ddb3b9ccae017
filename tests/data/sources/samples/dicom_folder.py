"""A source in the layout ``dicom_folder``: images named in five ways, one missing, one of a leg, one truncated."""

import numpy as np
from dicom_files import dicom

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
    pixels = np.random.default_rng(number).integers(0, 4096, (40, 32), dtype=np.uint16)
    about = {"SOPInstanceUID": f"1.2.3.{number}", "SpecificCharacterSet": "ISO_IR 192", "ViewPosition": "PA"}
    about |= {"PatientID": f"MRN{number // 2}", "PatientAge": f"0{number + 30}Y", "PatientSex": "FM"[number % 2]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(dicom(pixels, bits=12, **about | elements))


def write(folder):
    names = ("a/1.dcm", "a/2.DCM", "b/3.dicom", "b/4", "IM5", "c/1.2.840.6", "leg.dcm", "a/twice.dcm", "b/twice.dcm")
    for number, name in enumerate(names, start=1):
        write_dicom(folder / name, number)
    write_dicom(folder / "leg.dcm", 7, BodyPartExamined="LEG")
    (folder / "short.dcm").write_bytes((folder / "a/1.dcm").read_bytes()[:100])
    (folder / "README").write_text("no image")
    (folder / "labels.csv").write_text(TABLE)
    return folder, {"table": "labels.csv", "columns": {"image": "image", "one_hot": ("Mass", "Edema"), "view": "view"}}
