"""DICOM files: those that pydicom ships, films with known pixels, and what is read of them."""

from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from bones.data import images

SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"  # in the wheel; its get_testdata_file would go to the network
NAME = "Doe^Jane"
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits


def film(stored, bits=12, syntax=uid.ExplicitVRLittleEndian, **elements):
    """A data set of a patient's film. Without `bits`, the stored values are PixelData as it is."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = NAME, NAME, "19700101"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = stored.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * stored.dtype.itemsize, bits, bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    dataset["PixelData"].VR = "OB" if syntax.is_encapsulated else "OW"
    for name, value in elements.items():
        if value is None:
            del dataset[name]
        else:
            setattr(dataset, name, value)
    return dataset


def table(entries, first, bits, packed=False):
    """A sequence of one look-up table."""
    item = Dataset()
    item.LUTDescriptor = [len(entries) % 65536, first, bits]
    item.LUTData = np.asarray(entries, np.uint8 if packed else np.uint16).tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


def save(dataset, path="film.dcm"):
    """The path of a data set as a file."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def read(dataset_or_path):
    """(height, width) int of what images.read_grey makes of a data set or file."""
    path = dataset_or_path if isinstance(dataset_or_path, (str, Path)) else save(dataset_or_path)
    return np.asarray(images.read_grey(path)).astype(int)


def compress(source, syntax, path="compressed.dcm"):
    """The path of a file with its pixels compressed by gdcm."""
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(source))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(path)
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return path
