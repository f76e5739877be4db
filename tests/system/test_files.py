"""Files and folders are written whole or not at all, and a table that cannot be read is one message."""

import errno
import os
import sys
from pathlib import Path

import pytest

from bones.system import files
from bones.system.errors import FileError, short_message
from bones.system.files import PARTIAL, printable, read_table, scratch_folder, whole_file, whole_folder


def test_a_whole_file_takes_its_place_at_the_end(in_tmp):
    Path("out.txt").write_text("before", encoding="utf-8")
    with whole_file("out.txt") as partial:
        partial.write_text("after")
        assert Path("out.txt").read_text(encoding="utf-8") == "before" and partial.name == f"{PARTIAL}out.txt"
    assert Path("out.txt").read_text(encoding="utf-8") == "after" and list(in_tmp.iterdir()) == [in_tmp / "out.txt"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_fault_leaves_the_file_as_it_was_and_nothing_beside_it(fault, in_tmp):
    Path("out.txt").write_text("before", encoding="utf-8")
    with pytest.raises(type(fault)), whole_file("out.txt") as partial:
        partial.write_text("half")
        raise fault
    assert Path("out.txt").read_text(encoding="utf-8") == "before" and list(in_tmp.iterdir()) == [in_tmp / "out.txt"]


def test_the_fault_that_is_told_is_the_first(in_tmp):
    Path("file").write_text("no folder", encoding="utf-8")
    with pytest.raises(FileNotFoundError), whole_file("absent/out.txt") as partial:
        partial.write_text("x")
    with pytest.raises(ZeroDivisionError), whole_file("file/out.txt"):
        raise ZeroDivisionError


def test_a_whole_folder(in_tmp):
    (in_tmp / f"{PARTIAL}set").mkdir()
    (in_tmp / f"{PARTIAL}set" / "of a process that was killed").touch()
    with whole_folder("set") as partial:
        assert list(partial.iterdir()) == []
        (partial / "film.png").touch()
        assert not Path("set").exists()
    assert [path.name for path in Path("set").iterdir()] == ["film.png"]
    with pytest.raises(ZeroDivisionError), whole_folder("other") as partial:
        (partial / "film.png").touch()
        raise ZeroDivisionError
    assert [path.name for path in in_tmp.iterdir()] == ["set"]


def test_a_scratch_folder_goes(in_tmp):
    with scratch_folder("deep/export.onnx") as scratch:
        (scratch / "model").write_text("x")
        (scratch / "model").rename("kept")
    assert Path("kept").read_text(encoding="utf-8") == "x" and list(Path("deep").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"t\.csv cannot be read: No such file or directory\. Score again\."),
        (b"", r"t\.csv is not a CSV table \(No columns to parse from file\)\. Score again\."),
        (b"a,b\n1,2\n1,2,3\n", r"t\.csv is not a CSV table \(Error tokenizing data.*\)\. Score again\."),
        (b"a\n1\n", r"t\.csv lacks the columns b; expected a,b\. Score again\."),
    ],
)
def test_a_table_that_cannot_be_read_is_one_message(content, message, in_tmp):
    if content is not None:
        Path("t.csv").write_bytes(content)
    with pytest.raises(FileError, match=f"^{message}$"):
        read_table("t.csv", ["a", "b"], "Score again.")


def test_a_table_keeps_what_is_no_unicode(in_tmp):
    Path("t.csv").write_bytes(b"a,b\nlatin\xe4,2\n")
    (row,) = read_table("t.csv", ["a", "b"], "").itertuples()
    assert printable(row.a) == r"latin\xe4" and row.b == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_once(number, tmp_path, monkeypatch, caplog):
    import fcntl

    def refuse(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    files.warn_without_locks.cache_clear()
    for _ in range(2):
        with files.locked(tmp_path / "lock", timeout=0):
            pass
    assert [record.getMessage().split(" has ")[1][:8] for record in caplog.records] == ["no locks"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks in another way")
def test_other_errors_of_a_lock_are_errors(tmp_path):
    with pytest.raises(OSError, match="directory"), files.locked(tmp_path, timeout=0):
        pass


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_of_spreadsheets(encoding, tmp_path):
    (tmp_path / "table.csv").write_text("name,value\nRöntgen,1\n", encoding=encoding)
    table = files.read_table(tmp_path / "table.csv", ["name", "value"], "")
    assert table.to_dict("records") == [{"name": "Röntgen", "value": 1}]


def test_what_a_library_says_is_one_short_line():
    assert short_message(ValueError("first\nsecond")) == "first" and short_message(KeyError()) == "KeyError"
    assert len(short_message(ValueError("x" * 402_216))) < 320
