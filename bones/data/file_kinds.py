"""Which files of a folder are images: by the ending of the name, and DICOM by its first bytes, whatever its name."""

from bones.data.dicom import MAGIC, SUFFIXES

PICTURES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".j2k", ".gif", ".pgm", ".ppm"}
IMAGE_SUFFIXES = PICTURES | SUFFIXES
EXPECTED = "expected .png, .jpg, .tif, .bmp, .webp, .jp2, .gif or DICOM files"
SYSTEM_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "dicomdir"}


def is_image(path):
    """Whether a file is taken for an image: its name has one of IMAGE_SUFFIXES, or it has DICM at byte 128."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(132)[128:] == MAGIC
    except OSError:
        return False


def is_system_file(name):
    """Whether a system, an archiver or a DICOM medium left it: ._image1.png, .DS_Store, Thumbs.db, __MACOSX, DICOMDIR."""
    return name.startswith(".") or name.lower() in SYSTEM_FILES
