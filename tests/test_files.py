import errno

import pytest

from course_utils.storage.files import make_writable_folder, written_whole


def test_a_file_appears_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "new" / "notes.txt"
    with written_whole(path) as file:
        file.write_text("first", encoding="utf-8")
        assert not path.exists()
    with pytest.raises(RuntimeError), written_whole(path) as file:
        file.write_text("half of the sec", encoding="utf-8")
        raise RuntimeError("interrupted")
    assert path.read_text(encoding="utf-8") == "first"
    assert [found.name for found in path.parent.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match="^cannot write to .*name a folder that you may write to") as refusal:
        make_writable_folder(tmp_path / "file" / "folder")
    assert refusal.value.errno == errno.ENOTDIR
    make_writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
