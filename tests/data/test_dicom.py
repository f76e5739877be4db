"""DICOM files are decoded, or refused in our words, and nothing of the patient is kept."""

import hashlib
import io
import logging
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import gdcm
import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import NAME, RAMP, SHIPPED, compress, film, read, save
from PIL import Image
from pydicom import encaps, pixels, uid
from support import ROOT
from tiny import TINY

import data_loader
import model_test
import mura
from bones.data import dicom, images
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.system.errors import DataError, UnreadableImageError


def refusal(path):
    """The reason why a file is not read."""
    with pytest.raises(UnreadableImageError) as error:
        images.read_grey(path)
    assert NAME not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# Decoded


def test_of_several_frames_the_first(in_tmp):
    frames = np.stack([RAMP, RAMP[::-1]])
    assert (read(film(RAMP, NumberOfFrames=2, PixelData=frames.tobytes())) == read(film(RAMP))).all()


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "1.2.840.10008.1.2.4.70"),
        (gdcm.TransferSyntax.JPEGLSLossless, "1.2.840.10008.1.2.4.80"),
        (gdcm.TransferSyntax.JPEG2000Lossless, "1.2.840.10008.1.2.4.90"),
        (gdcm.TransferSyntax.RLELossless, "1.2.840.10008.1.2.5"),
    ],
)
def test_compressed_equals_uncompressed(syntax, name, in_tmp):
    plain = save(film(RAMP, WindowCenter=1000, WindowWidth=700))
    packed = compress(plain, syntax)
    assert pydicom.dcmread(packed).file_meta.TransferSyntaxUID == name
    assert (read(packed) == read(plain)).all()


# File: what it must look like, as another file does, or in the colours that pydicom finds.
SAME = {
    "MR_small_implicit.dcm": "MR_small.dcm",
    "MR_small_bigendian.dcm": "MR_small.dcm",
    "MR_small_padded.dcm": "MR_small.dcm",
    "MR_small_RLE.dcm": "MR_small.dcm",
    "MR_small_jp2klossless.dcm": "MR_small.dcm",
    "MR_small_jpeg_ls_lossless.dcm": "MR_small.dcm",
    "SC_rgb_jpeg_gdcm.dcm": "SC_rgb_gdcm_KY.dcm",  # JPEG Lossless, JPEG 2000
    "SC_rgb_rle_2frame.dcm": "SC_rgb_gdcm_KY.dcm",
    "SC_ybr_full_422_uncompressed.dcm": "SC_rgb_jpeg_dcmtk.dcm",
}


@pytest.mark.parametrize("name", SAME)
def test_shipped_files_that_are_one_picture(name, in_tmp):
    found, expected = read(SHIPPED / name), read(SHIPPED / SAME[name])
    assert (found == expected).all() and found.std() > 20


MISSING = {
    "1.2.840.10008.1.2.4.201": ("High-Throughput JPEG 2000", "pip install pylibjpeg pylibjpeg-openjpeg"),
    "1.2.840.10008.1.2.4.70": ("JPEG Lossless", "pip install python-gdcm"),
    "1.2.840.10008.1.2.4.80": ("JPEG-LS Lossless", "pip install python-gdcm"),
}


@pytest.mark.parametrize("syntax", MISSING)
def test_a_missing_plugin_is_named(syntax, in_tmp, monkeypatch):
    monkeypatch.setattr(pixels.get_decoder(syntax), "_available", {})
    reason = refusal(save(film(RAMP, syntax=uid.UID(syntax), PixelData=encaps.encapsulate([b"\0" * 100]))))
    assert reason.startswith("its pixels are compressed as ") and all(part in reason for part in MISSING[syntax])


def test_htj2k_needs_a_plugin_that_is_no_requirement(in_tmp):
    if pixels.get_decoder(uid.HTJ2K).is_available:
        pytest.skip("pylibjpeg-openjpeg is installed")
    content = encaps.encapsulate([b"\0" * 100])
    assert "pylibjpeg-openjpeg" in refusal(save(film(RAMP, syntax=uid.HTJ2K, PixelData=content)))


def test_syntaxes_that_nothing_decodes_are_told(in_tmp):
    Path("deep.dcm").write_bytes(as_xray("JPEG-lossy.dcm"))
    assert refusal("deep.dcm").endswith(
        "JPEG Extended of 12 bits, for which a plugin is missing: pip install pylibjpeg pylibjpeg-libjpeg"
    )
    for syntax in (uid.MPEG2MPML, uid.UID("1.2.3.4")):
        dataset = film(RAMP, PixelData=encaps.encapsulate([b"\0" * 100]))
        save(dataset)
        content = Path("film.dcm").read_bytes()
        plain = b"1.2.840.10008.1.2.1\0"
        assert content.count(plain) == 1
        Path("film.dcm").write_bytes(content.replace(plain, syntax.encode().ljust(len(plain), b"\0")[: len(plain)]))
        assert "its transfer syntax is not supported: convert it" in refusal("film.dcm")


def test_missing_pydicom_is_told_with_the_install_line(small_root, in_tmp, monkeypatch):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    save(film(RAMP), study / "image3.dcm")
    dicom.library.cache_clear()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    try:
        with pytest.raises(DataError) as error:
            load_pixels(find_views(small_root, "train"), 16, "pad")
    finally:
        dicom.library.cache_clear()
    assert "1 of 17 images" in str(error.value)
    assert "image3.dcm   DICOM needs pydicom: pip install -r requirements/extra.txt" in str(error.value)


# ---------------------------------------------------------------------------------------------------------------------
# Refused


def png():
    file = io.BytesIO()
    Image.new("L", (20, 20), 9).save(file, "PNG")
    return file.getvalue()


def as_xray(name):
    """A shipped file of nuclear medicine on a workstation's screen, as if it were a radiograph."""
    content = (SHIPPED / name).read_bytes()
    assert content.count(b"CS\2\0NM") == 1
    return content.replace(b"CS\2\0NM", b"CS\2\0CR")


NO_DICOM = {
    "0 bytes": (b"", "0 bytes (expected an image)"),
    "text": (b"no image at all\n" * 20, "nor DICOM (expected DICM at byte 128)"),
    "a head alone": (b"\0" * 128 + b"DICM", "its header names no transfer syntax"),
    "no head": ((SHIPPED / "no_meta.dcm").read_bytes(), "nor DICOM (expected DICM at byte 128)"),
    "a report": ((SHIPPED / "test-SR.dcm").read_bytes(), "DICOM Comprehensive SR"),
    "a directory": ((SHIPPED / "dicomdirtests" / "DICOMDIR").read_bytes(), "a DICOM directory"),
    "no pixels": ((SHIPPED / "test-SR.dcm").read_bytes().replace(b"1.1.88.33", b"1.1.7\0\0\0\0"), "it contains no pixels"),
    "no syntax": ((SHIPPED / "meta_missing_tsyntax.dcm").read_bytes(), "its header names no transfer syntax"),
    "a dose": ((SHIPPED / "rtdose.dcm").read_bytes(), "DICOM RT Dose"),
    "a segmentation": ((SHIPPED / "liver_1frame.dcm").read_bytes(), "DICOM Segmentation"),
    "a screen": ((SHIPPED / "image_dfl.dcm").read_bytes(), "a screen capture or dose sheet"),
    "cut short": ((SHIPPED / "MR_truncated.dcm").read_bytes(), "its pixels cannot be decoded: damaged, or truncated"),
    "embedded end": (as_xray("JPEG2000-embedded-sequence-delimiter.dcm"), "its pixels cannot be decoded"),
}


@pytest.mark.parametrize("kind", NO_DICOM)
def test_files_that_are_no_film(kind, in_tmp):
    content, reason = NO_DICOM[kind]
    Path("film.dcm").write_bytes(content)
    assert reason in refusal("film.dcm")


ODD = {
    "no photometry": ({"PhotometricInterpretation": None}, "its header lacks PhotometricInterpretation"),
    "empty rows": ({"Rows": ""}, "its header lacks Rows"),
    "several rows": ({"Rows": [64, 64]}, "its header is damaged"),
    "no rows": ({"Rows": 0}, "it has no rows or no columns"),
    "more rows": ({"Rows": 65}, "its pixels cannot be decoded"),
    "more columns": ({"Columns": 6400}, "its pixels cannot be decoded"),
    "12 bits allocated": ({"BitsAllocated": 12}, "its pixels cannot be decoded"),
    "32 bits allocated": ({"BitsAllocated": 32}, "more than 16 bits"),
    "more stored than allocated": ({"BitsStored": 17, "HighBit": 16}, "its HighBit and BitsStored contradict each other"),
    "0 bits stored": ({"BitsStored": 0, "HighBit": 0}, "its pixels cannot be decoded"),
    "high bit below": ({"BitsStored": 16, "HighBit": 11}, "its HighBit and BitsStored contradict each other"),
    "high bit above all": ({"HighBit": 16}, "its HighBit and BitsStored contradict each other"),
    "far from square": ({"PixelSpacing": [21, 1]}, "its pixels are 21 times as long as wide"),
    "3 samples of grey": ({"SamplesPerPixel": 3, "PlanarConfiguration": 0}, "its number of samples contradicts"),
    "1 sample of colour": ({"PhotometricInterpretation": "RGB"}, "its number of samples contradicts"),
    "unknown colours": ({"PhotometricInterpretation": "DOE JANE"}, "its photometric interpretation is not supported"),
    "no palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "its palette has no table of 1 to 16 bits"),
    "no sign": ({"PixelRepresentation": 7}, "its pixels cannot be decoded"),
    "no such window": ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "DOE"}, "a function other than"),
    "window too far": ({"WindowCenter": "1e308", "WindowWidth": "1e308", "RescaleSlope": "-1e308"}, "out of range"),
    "slope 0": ({"RescaleSlope": 0, "RescaleIntercept": 5}, "its rescale slope is 0"),
    "negative frames": ({"NumberOfFrames": -1}, "its pixels cannot be decoded"),
    "floating-point": ({"PixelData": None, "FloatPixelData": RAMP.astype(np.float32).tobytes()}, "floating-point numbers"),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.filterwarnings("ignore")
def test_headers_that_contradict_themselves(kind, in_tmp):
    elements, reason = ODD[kind]
    assert reason in refusal(save(film(RAMP, **elements)))


def test_a_film_cut_at_any_byte_is_told(in_tmp):
    small = film(RAMP[:8, :8].copy())
    for dataset in (small, film(RAMP[:8, :8].copy(), syntax=uid.DeflatedExplicitVRLittleEndian)):
        content = Path(save(dataset)).read_bytes()
        for length in range(len(content) - 1):
            Path("cut.dcm").write_bytes(content[:length])
            assert refusal("cut.dcm")
    for name, step in (("MR_small_jp2klossless.dcm", 97), ("MR_small_RLE.dcm", 1_500)):
        content = (SHIPPED / name).read_bytes()
        end = content.rindex(b"\xfe\xff\xdd\xe0")  # of the pixels
        for length in range(1, end, step):
            Path("cut.dcm").write_bytes(content[:length])
            assert refusal("cut.dcm")


def test_bombs_are_refused(in_tmp):
    assert "refused as a decompression bomb: Image size (400000000 pixels)" in refusal(
        save(film(RAMP, Rows=20_000, Columns=20_000))
    )
    bomb = (SHIPPED / "image_dfl.dcm").read_bytes()
    head = bomb[: 144 + pydicom.dcmread(SHIPPED / "image_dfl.dcm").file_meta.FileMetaInformationGroupLength]
    deflater = zlib.compressobj(9, wbits=-15)
    element = struct.pack("<HH2sHL", 0x0009, 0x0010, b"OB", 0, 200_000_000)
    content = b"".join([deflater.compress(element), *(deflater.compress(bytes(10**6)) for _ in range(200)), deflater.flush()])
    Path("film.dcm").write_bytes(head + content)
    assert len(content) < 250_000 and "refused as a decompression bomb: deflated" in refusal("film.dcm")


def test_files_of_gigabytes_are_refused_unread(in_tmp):
    with open(save(film(RAMP)), "r+b") as file:
        file.truncate(3 * 2**30)  # a hole: takes no room on the disk
    assert "it is larger than 1,073,741,824 bytes" in refusal("film.dcm")


def huge(content, marker):
    """A JPEG or JPEG-LS stream whose header says 30,000 x 30,000 pixels."""
    place = content.index(marker) + 5
    return content[:place] + struct.pack(">HH", 30_000, 30_000) + content[place + 4 :]


def test_a_frame_that_claims_to_be_huge_is_refused_and_takes_no_memory(in_tmp):
    resource = pytest.importorskip("resource")
    jpeg = io.BytesIO()
    Image.new("L", (10, 10), 9).save(jpeg, "JPEG")
    frame = huge(jpeg.getvalue(), b"\xff\xc0")
    stored = np.zeros((10, 10), np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    dataset = film(stored, 8, uid.JPEGBaseline8Bit, PixelData=encaps.encapsulate([frame]))
    assert "its pixels c" in refusal(save(dataset))
    content = (SHIPPED / "MR_small_jpeg_ls_lossless.dcm").read_bytes()
    Path("film.dcm").write_bytes(huge(content, b"\xff\xf7"))
    assert "its pixels cannot be decoded" in refusal("film.dcm")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(("name", "place"), [("SC_rgb_jpeg_gdcm.dcm", 1338), ("MR_small_jpeg_ls_lossless.dcm", 1558)])
def test_a_film_on_which_gdcm_crashes_is_told(name, place, in_tmp, capfd):
    """gdcm 3.2.6 ends the process, by SIGABRT and SIGSEGV."""
    content = bytearray((SHIPPED / name).read_bytes())
    content[place] = 0
    Path("film.dcm").write_bytes(content)
    assert refusal("film.dcm") == dicom.DAMAGED_PIXELS
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------------------------------
# Wherever an image may stand


@pytest.fixture
def dicom_root(phantoms, tmp_path):
    """The phantoms with every film as DICOM, but those of the first views."""
    root = tmp_path / "dicom"
    shutil.copytree(phantoms, root)
    for path in root.rglob("*.png"):
        if path.name != "image1.png":
            save(film(np.asarray(images.read_grey(path)), 8), path.with_suffix(".dcm"))
            path.unlink()
    assert len(list(root.rglob("*.dcm"))) > 40 and len(list(root.rglob("*.png"))) > 40
    return root


def test_scores_are_those_of_the_same_films_as_png(run, phantoms, dicom_root, capsys):
    found = []
    for root in (phantoms, dicom_root):
        assert model_test.main([str(run), "--data", str(root)]) == 0
        predictions = pd.read_csv(run / "predictions.csv").sort_values(["patient", "study", "view"])
        found.append(predictions["probability"].to_numpy())
    assert predictions["view"].str.endswith(".dcm").any() and np.array_equal(*found)


def test_training_checking_suspects_and_audit_take_dicom(run, dicom_root, in_tmp, capsys):
    assert data_loader.main(["--check", str(dicom_root)]) == 0
    assert "DICOM" in (out := capsys.readouterr().out) and "cannot be decoded" not in out
    assert model_test.main([str(run), "--data", str(dicom_root), "--suspects", "3"]) == 0
    assert model_test.main([str(run), "--data", str(dicom_root), "--audit"]) == 0
    assert (run / "suspects.png").exists() and (run / "audit.png").exists()
    assert mura.main(["--data", str(dicom_root), *TINY, "--epochs", "1", "--tuning-fraction", "0.3", "--out", "new"]) == 0


def test_a_study_of_dicom_and_png_is_called(run, dicom_root, capsys):
    study = next(path for path in sorted((dicom_root / "valid").rglob("study*")) if len(list(path.iterdir())) > 1)
    assert model_test.main([str(run), str(study)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {Path(line.split("\t")[0]).suffix for line in lines[:-1]} == {".png", ".dcm"}
    assert lines[-1].startswith("study ")


# ---------------------------------------------------------------------------------------------------------------------
# Nothing of the patient


STUDY_UID = "1.2.826.0.1.3680043.10.1338.0042.09"  # not valid: its numbers begin with zeros


def leaky():
    """Films with the patient's name in every element that is read as text, and damaged ones."""
    yield film(RAMP)
    for name in ("PhotometricInterpretation", "VOILUTFunction"):
        yield film(RAMP, WindowCenter=5, WindowWidth=9, **{name: NAME})
    for name in ("WindowCenter", "RescaleSlope", "NumberOfFrames", "Rows"):
        dataset = film(
            RAMP, **{"WindowWidth": 9, "WindowCenter": 5, "RescaleSlope": 1, "RescaleIntercept": 0, "NumberOfFrames": 1}
        )
        element = dataset[name]
        value = NAME.encode()
        dataset[name] = pydicom.dataelem.RawDataElement(element.tag, element.VR, len(value), value, 0, False, True)
        yield dataset
    yield film(RAMP, SpecificCharacterSet=NAME)
    yield film(RAMP, syntax=uid.JPEG2000Lossless, PixelData=encaps.encapsulate([NAME.encode()]))
    yield film(RAMP, syntax=uid.JPEGLosslessSV1, PixelData=encaps.encapsulate([NAME.encode()]))


def leaky_files(folder):
    """Paths of them, all of one Study Instance UID that is not valid, and of one whose transfer syntax is the name."""
    paths = []
    for number, dataset in enumerate(leaky()):
        dataset["StudyInstanceUID"] = pydicom.dataelem.RawDataElement(
            pydicom.tag.Tag(0x0020000D), "UI", len(STUDY_UID), STUDY_UID.encode(), 0, False, True
        )
        paths.append(folder / f"leak{number}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    content = paths[0].read_bytes()
    paths.append(folder / "syntax.dcm")
    paths[-1].write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", NAME.encode().ljust(20, b"\0")))
    paths.append(folder / "cut.dcm")
    paths[-1].write_bytes(content[: content.index(NAME.encode()) + 3])
    return paths


@pytest.mark.filterwarnings("ignore")
def test_no_trace_of_the_patient_in_a_run(run, dicom_root, in_tmp, capfd, caplog):
    study = next(iter(sorted((dicom_root / "valid").rglob("study*"))))
    paths = leaky_files(study)
    assert all(b"Doe" in path.read_bytes() for path in paths)
    capfd.readouterr()
    caplog.clear()  # what pydicom says as it writes the files
    with caplog.at_level(logging.DEBUG):
        assert model_test.main([str(run), "--data", str(dicom_root)]) == 1
        assert model_test.main([str(run), "--data", str(dicom_root), "--skip-unreadable"]) == 0
        data_loader.main(["--check", str(dicom_root), "--pairs", "data/pairs.png"])
        for number, named in enumerate((study, study.parent)):  # lines, and a table with panels
            options = ["--heatmap", f"data/maps{number}", "--csv", f"data/{number}.csv"] * number
            assert model_test.main([str(run), str(named), "--skip-unreadable", *options]) == 0
    printed = capfd.readouterr()
    assert f"{len(paths) - 3} files were left out, unreadable" in printed.out, (
        "the first film, one with a window of words and an unknown character set are read"
    )
    assert "leak4.dcm" in printed.err
    written = [path for folder in (run, in_tmp / "data") for path in folder.rglob("*") if path.is_file()]
    assert any(path.suffix == ".npy" for path in written) and run / "predictions.csv" in written
    texts = [printed.out.encode(), printed.err.encode(), caplog.text.encode(), *(path.read_bytes() for path in written)]
    digests = [hashlib.new(name, STUDY_UID.encode()).hexdigest() for name in ("md5", "sha1", "sha256")]
    kept_back = [word.encode() for word in ("Doe", "Jane", "19700101", STUDY_UID, *digests)]
    assert not [word for word in kept_back for text in texts if word in text]


READ_ALL = """
import concurrent.futures, sys
from bones.data import images
from bones.data.study_uids import study_uid
from bones.system.errors import UnreadableImageError
def reason(path):
    try:
        study_uid(path)
        return images.read_grey(path).size
    except UnreadableImageError as error:
        return str(error)
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    print(*pool.map(reason, sys.argv[1:]), sep="\\n")
"""


@pytest.mark.filterwarnings("ignore")
def test_threads_of_a_fresh_process_print_nothing(tmp_path):
    """pydicom is imported by the first of eight threads; every warning is shown that is not silenced."""
    paths = leaky_files(tmp_path)
    command = [sys.executable, "-W", "always", "-c", READ_ALL, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    assert len(done.stdout.splitlines()) == len(paths) and done.stdout.startswith("(64, 64)")
    assert not any(word in done.stdout for word in ("Doe", "Jane", STUDY_UID))


def test_nothing_of_the_patient_is_kept(in_tmp):
    with open(save(film(RAMP)), "rb") as file:
        dataset = dicom.read_header(file)
    assert "PatientName" not in dataset and NAME not in str(dataset)
