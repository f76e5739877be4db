"""Which files of a folder are images: by the ending of the name, or whatever the name by their first bytes."""

from bones.data import jpeg, png, tiff
from bones.data.dicom import MAGIC, SUFFIXES

PICTURES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".j2k", ".gif", ".pgm", ".ppm"}
IMAGE_SUFFIXES = PICTURES | SUFFIXES
EXPECTED = "expected .png, .jpg, .tif, .bmp, .webp, .jp2, .gif or DICOM files"
JPEG2000 = (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")  # as a file, as a stream
SIGNATURES = (png.SIGNATURE, jpeg.SIGNATURE, *tiff.SIGNATURES, *JPEG2000, b"GIF8")
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "dicomdir"}


def is_image(path):
    """Whether a file is taken for an image: its name has one of IMAGE_SUFFIXES, or it begins as one."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(132)
        is_webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
        return head[128:] == MAGIC or head.startswith(SIGNATURES) or is_webp
    except OSError:
        return False


def is_system_file(name):
    """Whether a system, an archiver or a DICOM medium left it: ._image1.png, .DS_Store, Thumbs.db, __MACOSX, DICOMDIR."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES
