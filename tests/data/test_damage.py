"""Damage that raises no error in Pillow is found; and what does not matter to the pixels is none."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from dicom_files import film
from PIL import Image
from pydicom import encaps, uid

from bones.data import images, jpeg, png
from bones.system.errors import UnreadableImageError

FILM = np.random.default_rng(1).integers(40, 250, (64, 48), np.uint8)


def encoded(form, **options):
    """Bytes of the film in a format."""
    file = io.BytesIO()
    Image.fromarray(FILM).save(file, form, **options)
    return file.getvalue()


def refusal(content, path):
    """The reason why a file is not read."""
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError) as error:
        images.read(path)
    return str(error.value)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 30}])
def test_a_part_of_a_jpeg_with_its_end_marker(options, share, tmp_path):
    content = encoded("JPEG", **options)
    end = b"\xff\xd9"
    start = content.index(b"\xff\xda") + 14
    part = content[: start + int(share * (len(content) - 2 - start))]
    assert "data are missing" in refusal(part + end, tmp_path / "film.jpg") or options.get("progressive")
    assert "ends after" in refusal(part, tmp_path / "film.jpg") or options.get("progressive")


def test_scans_of_a_progressive_jpeg_that_are_missing(tmp_path):
    content = encoded("JPEG", progressive=True)
    scans = [place for place in range(len(content) - 1) if content[place : place + 2] == b"\xff\xda"]
    assert len(scans) > 3 and not jpeg.lacks_scans(content)
    for scan in scans[1:]:
        tables = content.rindex(b"\xff\xc4", 0, scan)  # which belong to the scan
        assert "scans of a progressive JPEG are missing" in refusal(content[:tables] + b"\xff\xd9", tmp_path / "film.jpg")


def test_bytes_between_and_behind_markers_are_no_damage(tmp_path):
    content = encoded("JPEG")
    for whole in (content + b"\0" * 9, content[:-2] + b"ab" + content[-2:]):
        (tmp_path / "film.jpg").write_bytes(whole)
        assert images.read(tmp_path / "film.jpg").notes == ()


@pytest.mark.parametrize("progressive", [False, True])
def test_half_a_jpeg_in_dicom(progressive, in_tmp):
    content = encoded("JPEG", progressive=progressive)
    half = content[: len(content) // 2] + b"\xff\xd9"
    for frame, is_whole in ((content, True), (half, False)):
        dataset = film(FILM, 8, uid.JPEGBaseline8Bit, PixelData=encaps.encapsulate([frame + b"\0" * (len(frame) % 2)]))
        dataset.save_as("film.dcm", enforce_file_format=True)
        if is_whole:
            assert images.read("film.dcm").notes == ()
        else:
            with pytest.raises(UnreadableImageError, match=r"its pixels (are damaged|cannot be decoded)"):
                images.read("film.dcm")


def chunks_of(content):
    """[(kind, data)] of a PNG file."""
    return [(kind, data) for kind, data, _ in png.split(content)[0]]


def joined(chunks):
    """A PNG file of chunks."""
    return png.SIGNATURE + b"".join(png.chunk(*pair) for pair in chunks)


def test_a_png_that_lacks_rows(tmp_path):
    for form in ({}, {"interlace": 1}):
        content = encoded("PNG", **form)
        chunks = chunks_of(content)
        rows = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
        for share in (0, 0.5, 0.99):
            short = zlib.compress(rows[: int(share * len(rows))])
            changed = [(kind, short if kind == b"IDAT" else data) for kind, data in chunks]
            assert "rows are missing" in refusal(joined(changed), tmp_path / "film.png")
        assert "ends after" in refusal(content[: len(content) // 2], tmp_path / "film.png")


def test_wrong_checksums(tmp_path):
    content = bytearray(encoded("PNG"))
    for kind, is_needed in ((b"IHDR", True), (b"IDAT", True), (b"tEXt", False), (b"tIME", False)):
        chunks = chunks_of(bytes(content))
        if not is_needed:
            chunks.insert(1, (kind, b"Title\0of seven bytes"))
        changed = bytearray(joined(chunks))
        place = changed.index(kind)
        length = int.from_bytes(changed[place - 4 : place], "big")
        changed[place + 4 + length] ^= 255
        (tmp_path / "film.png").write_bytes(changed)
        if is_needed:
            assert "a checksum is wrong" in refusal(bytes(changed), tmp_path / "film.png")
        else:
            assert (np.asarray(images.read_grey(tmp_path / "film.png")) == FILM).all()


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP", b"scAn"])
@pytest.mark.parametrize("behind", [False, True])
def test_large_ancillary_chunks(kind, behind, tmp_path):
    head = {b"zTXt": b"Comment\0\0", b"iTXt": b"Comment\0\1\0\0\0", b"iCCP": b"profile\0\0", b"scAn": b""}[kind]
    chunks = chunks_of(encoded("PNG"))
    chunks.insert(-1 if behind else 1, (kind, head + zlib.compress(bytes(3_000_000))))
    (tmp_path / "film.png").write_bytes(joined(chunks))
    assert (np.asarray(images.read_grey(tmp_path / "film.png")) == FILM).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_applied_once(form, orientation, tmp_path):
    upright = np.zeros((32, 16), np.uint8)
    upright[:8, :8] = 255  # the upper left corner
    turned = {
        **{1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1]},
        **{5: upright.T, 6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1]},
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"film.{form.lower()}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    found = np.asarray(images.read_grey(path)).astype(int)
    assert found.shape == (32, 16) and np.abs(found - upright).mean() < 3


def test_odd_exif_tags_do_not_matter(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(encoded("JPEG", exif=exif))
    for tag, kind, value in ((0x011A, 10, b"\0\0\0\x26"), (0x8769, 4, b"\xff\xff\xff\xff"), (0x9286, 13, b"\0\0\0\1")):
        entry = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
        place, segment = content.index(entry), content.index(b"Exif\0\0") - 2
        odd = struct.pack(">HHI", tag, kind, 1) + value
        changed = content[: place - 2] + struct.pack(">H", 2) + entry + odd + content[place + 12 :]
        (length,) = struct.unpack_from(">H", content, segment)
        struct.pack_into(">H", changed, segment, length + 12)
        (tmp_path / "film.jpg").write_bytes(changed)
        assert images.read_grey(tmp_path / "film.jpg").size == (64, 48), "turned by 90 degrees"


def test_a_progressive_jpeg_without_one_of_its_scans(tmp_path):
    content = encoded("JPEG", progressive=True)
    scans = [place for place in range(len(content) - 1) if content[place : place + 2] == b"\xff\xda"]
    ends = [jpeg.NEXT_MARKER.search(content, scan + 2).start() for scan in scans]
    for start, end in zip([content.index(b"\xff\xc4"), *ends[:-1]], ends, strict=True):
        assert jpeg.lacks_scans(content[:start] + content[end:])


@pytest.mark.parametrize("lost", ["offset", "strips"])
def test_a_tiff_that_lacks_strips(lost, tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", FILM, rowsperstrip=8)
    with tifffile.TiffFile(tmp_path / "film.tif", mode="r+") as file:
        tag = file.pages[0].tags["StripOffsets"]
        tag.overwrite([*tag.value[:-1], 0] if lost == "offset" else tag.value[:3])
    assert "strips are missing" in refusal((tmp_path / "film.tif").read_bytes(), tmp_path / "film.tif")


def test_ancillary_chunks_with_a_wrong_checksum_are_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, data in ((b"tRNS", b"\0\xc8"), (b"eXIf", exif.tobytes()[6:]), (b"sBIT", b"\4")):
        chunks = chunks_of(encoded("PNG"))
        chunks.insert(1, (kind, data))
        changed = bytearray(joined(chunks))
        changed[changed.index(kind) + 4 + len(data)] ^= 255
        (tmp_path / "film.png").write_bytes(changed)
        assert (np.asarray(images.read_grey(tmp_path / "film.png")) == FILM).all(), kind


@pytest.mark.parametrize("length", [0, 1, 3])
def test_a_transparent_value_of_a_wrong_length_is_none(length, tmp_path):
    chunks = chunks_of(encoded("PNG"))
    chunks.insert(1, (b"tRNS", bytes(length)))
    (tmp_path / "film.png").write_bytes(joined(chunks))
    assert (np.asarray(images.read_grey(tmp_path / "film.png")) == FILM).all()
