"""Which DICOM objects are no radiographs: reports, segmentations, dose sheets and others that a PACS keeps beside images.

Source: DICOM PS3.4, B.5 (SOP classes), https://dicom.nema.org/medical/dicom/current/output/html/part04.html.
"""

import re

from bones.data.dicom_elements import term
from bones.system.errors import NotARadiographError

STORAGE = "1.2.840.10008.5.1.4.1.1."
DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = STORAGE + "7"
# Presentation states, waveforms, structured reports, encapsulated documents, raw data and segmentations, value mappings,
# surfaces, parametric maps, hanging and other protocols, and radiotherapy but for its images (481.1).
OTHERS = ("11.", "9.", "88.", "104.", "66", "67", "68.", "30", "38.", "39.", "200.", *(f"481.{n}" for n in range(2, 26)))
PROCESSING = "FOR PROCESSING"
WORKSTATION, DIGITISED = "WSD", {"DF", "SD"}  # conversion types; a digitised film and a scanned document are radiographs
SHEET = re.compile(
    r"dose[ _-]?(report|sheet|summary|record|info)|dosisprotokoll|screen[ _-]?(save|shot|capture)", re.IGNORECASE
)
XRAY = {"CR", "DX", "DR", "RG", "RF", "XA", "MG", "IO", "PX"}  # modalities


def check(dataset):
    """Raise NotARadiographError with the reason for an object that is no radiograph, or none that is made to be shown."""
    from pydicom.uid import UID  # optional, and loaded by dicom.py

    kind = term(dataset, "SOPClassUID") or term(dataset.file_meta, "MediaStorageSOPClassUID")
    name = UID(kind).name.removesuffix(" Storage")
    if kind == DIRECTORY:
        raise NotARadiographError("a DICOM directory")
    if kind.startswith(tuple(STORAGE + other for other in OTHERS)):
        raise NotARadiographError(f"DICOM {name}")
    if term(dataset, "PresentationIntentType") == PROCESSING or PROCESSING.title() in name:
        raise NotARadiographError("a detector's raw data (FOR PROCESSING); export the image FOR PRESENTATION")
    has_pixels = any(element in dataset for element in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))
    if not has_pixels and "Image" not in name:  # of an image, they were lost
        raise NotARadiographError(f"a DICOM object without pixels ({name})")
    if kind.startswith(SECONDARY_CAPTURE):
        check_capture(dataset)


def check_capture(dataset):
    """Raise NotARadiographError for a screen capture or dose sheet; a digitised image stays, and an X-ray in grey."""
    described, conversion = f"{dataset.get('ImageType')} {dataset.get('SeriesDescription')}", term(dataset, "ConversionType")
    is_xray = term(dataset, "PhotometricInterpretation").startswith("MONOCHROME") and term(dataset, "Modality") in XRAY
    if conversion not in DIGITISED and (SHEET.search(described) or (conversion == WORKSTATION and not is_xray)):
        raise NotARadiographError("a screen capture or dose sheet (DICOM Secondary Capture); if not, save it as PNG")
