"""DICOM images to decode."""

import io
import warnings

import gdcm
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from cxr_pipeline.data.images.dicom import decode_dicom

NAME, NUMBER = "Doe^Jane", "MRN-4711"


def dataset(pixels, *, bits=None, syntax=uid.ExplicitVRLittleEndian, **elements):
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3.4"
    image.PatientName, image.PatientID, image.Modality, image.BodyPartExamined = NAME, NUMBER, "DX", "CHEST"
    image.set_pixel_data(pixels, "RGB" if pixels.ndim == 3 else "MONOCHROME2", bits or 8 * pixels.itemsize)
    image.file_meta.TransferSyntaxUID = syntax
    if syntax == uid.ExplicitVRBigEndian:
        image.PixelData = pixels.byteswap().tobytes()
    return change(image, elements)


def change(image, elements):
    """Set elements of a dataset, or remove those that are None."""
    for keyword, value in elements.items():
        if value is None:
            image.pop(keyword, None)
        else:
            setattr(image, keyword, value)
    return image


def to_bytes(image):
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(content, image, enforce_file_format=True)
    return content.getvalue()


def dicom(pixels, **elements):
    return to_bytes(dataset(pixels, **elements))


def compress(image, syntax, folder):
    """Return a file in the transfer syntax that GDCM calls ``syntax``."""
    if syntax == "RLELossless":
        image.compress(uid.RLELossless)
        return to_bytes(image)
    (folder / "in.dcm").write_bytes(to_bytes(image))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(folder / "in.dcm"))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(folder / "out.dcm"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return (folder / "out.dcm").read_bytes()


def read(content):
    return decode_dicom(content, max_megapixels=1)


def levels(bits, *, signed=False):
    """Smooth grey levels over the whole range of that many bits, 64 x 80 pixels."""
    rows, columns = np.mgrid[:64, :80]
    image = np.sin(rows / 9) + np.cos(columns / 13)
    image = (image - image.min()) / (image.max() - image.min()) * (2**bits - 1) - (2 ** (bits - 1) if signed else 0)
    return np.rint(image).astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def lut(first, entries, bits):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return item


def with_frame(image, frame):
    image.PixelData = encapsulate([frame])
    image["PixelData"].is_undefined_length = True
    return to_bytes(image)
