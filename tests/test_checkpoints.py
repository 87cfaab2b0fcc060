import errno
import os
import random
import warnings
from types import SimpleNamespace

import pytest
import torch

from course_utils.storage import checkpoints as checkpoints_module
from course_utils.storage.checkpoints import CheckpointFolder, checkpoint_files, checksum, require_room

DAMAGED = 200  # files


def state(step):
    return dict(step=step, weights=torch.full((500,), float(step)), losses=[0.5] * step)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_are_kept(tmp_path):
    checkpoints = CheckpointFolder(tmp_path / "new" / "folder")
    assert checkpoints.newest() is None
    for step in (999_998, 999_999, 1_000_000):
        checkpoints.write(step, state(step))
    assert names(checkpoints.folder) == ["checkpoint-1000000.pt", "checkpoint-999999.pt"]
    assert checkpoints.newest()["step"] == 1_000_000


def test_what_a_killed_write_left_behind_is_removed_and_nothing_else(tmp_path):
    CheckpointFolder(tmp_path).write(1, state(1))
    (tmp_path / "checkpoint-000002.pt.partial").write_bytes(b"half")
    (tmp_path / "notes.partial").write_text("mine", encoding="utf-8")
    CheckpointFolder(tmp_path)
    assert names(tmp_path) == ["checkpoint-000001.pt", "notes.partial"]


def test_any_damage_is_noticed(tmp_path):
    """Cut short, or with one bit turned: the checkpoint is read as it was, or the one before it is."""
    checkpoints = CheckpointFolder(tmp_path)
    checkpoints.write(1, state(1))
    checkpoints.write(2, state(2))
    whole = checkpoints.path(2).read_bytes()
    chance, fallbacks = random.Random(0), 0
    for number in range(DAMAGED):
        damaged, place = bytearray(whole), chance.randrange(len(whole))
        if number % 2:
            del damaged[place:]
        else:
            damaged[place] ^= 1 << chance.randrange(8)
        checkpoints.path(2).write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            found = checkpoints.newest()
        assert found["step"] == (1 if caught else 2)
        assert torch.equal(found["weights"], state(found["step"])["weights"])
        fallbacks += len(caught)
    assert fallbacks > DAMAGED / 2  # turned bits of file names and padding do no harm


def test_none_that_can_be_read(tmp_path):
    (tmp_path / "checkpoint-000001.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="checkpoint-000001.pt cannot be read.*there is no earlier one: empty that"):
        CheckpointFolder(tmp_path).newest()


def nested(levels):
    value = {"a": 1}
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("content", [[1, 2], 5, None, "text", torch.zeros(3), nested(100)])
def test_a_checkpoint_without_named_parts_gives_way_to_the_one_before(tmp_path, content):
    folder = CheckpointFolder(tmp_path)
    torch.save(content, folder.path(2))
    with pytest.raises(
        ValueError, match="checkpoint-000002.pt cannot be read.*expected the parts of a training"
    ) as odd:
        folder.newest()
    assert "\n" not in str(odd.value) and len(str(odd.value)) < 500
    folder.write(1, state(1))
    torch.save(content, folder.path(2))
    with pytest.warns(UserWarning, match="goes on from checkpoint-000001.pt"):
        assert folder.newest()["step"] == 1


def test_a_pickle_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save(dict(step=Evil()), tmp_path / "checkpoint-000001.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        CheckpointFolder(tmp_path).newest()
    assert names(tmp_path) == ["checkpoint-000001.pt"]


def test_a_name_of_another_width_is_read_and_replaced_in_its_turn(tmp_path):
    folder = CheckpointFolder(tmp_path)
    torch.save(state(5), tmp_path / "checkpoint-5.pt")
    assert folder.newest()["step"] == 5
    folder.write(6, state(6))
    folder.write(7, state(7))
    assert names(tmp_path) == ["checkpoint-000006.pt", "checkpoint-000007.pt"]


def test_a_folder_with_a_checkpoints_name_is_named_and_stays(tmp_path):
    folder = CheckpointFolder(tmp_path)
    (tmp_path / "checkpoint-000009.pt").mkdir()
    with pytest.raises(ValueError, match="checkpoint-000009.pt cannot be read"):
        folder.newest()
    folder.write(1, state(1))
    with pytest.warns(UserWarning, match="goes on from checkpoint-000001.pt"):
        assert folder.newest()["step"] == 1
    for step in (2, 3, 10, 11):
        folder.write(step, state(step))
    assert names(tmp_path) == ["checkpoint-000009.pt", "checkpoint-000010.pt", "checkpoint-000011.pt"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert CheckpointFolder("~/mine").folder == tmp_path / "mine"


def test_files_of_all_stages_the_latest_last(tmp_path):
    for stage, step in ((1, 5), (0, 999_999), (0, 1_000_000)):
        CheckpointFolder(tmp_path / f"stage-{stage}").write(step, state(1))
    (tmp_path / "stage-1" / "checkpoint-best.pt").write_text("not ours", encoding="utf-8")
    found = [f"{path.parent.name} {path.stem}" for path in checkpoint_files(tmp_path)]
    assert found == ["stage-0 checkpoint-999999", "stage-0 checkpoint-1000000", "stage-1 checkpoint-000005"]


def test_a_checksum_sees_every_number_and_its_place():
    images = torch.randint(0, 256, (50, 1, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
    changed = images.clone()
    changed[49, 0, 27, 27] += 1
    sums = {checksum(one) for one in (images, changed, images.flip(0), images.mT)}
    assert len(sums) == 4 and checksum(images.mT.contiguous().mT) == checksum(images)


def test_room_is_tried_out_and_given_back(tmp_path, monkeypatch):
    require_room(tmp_path, 3_000_000)
    require_room(tmp_path, -5)
    assert names(tmp_path) == []

    class Full:
        """A file on a disk that holds two million bytes."""

        def __enter__(self):
            self.left = 2_000_000
            return self

        def __exit__(self, *error):
            pass

        def write(self, content):
            self.left -= len(content)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints_module, "tempfile", SimpleNamespace(TemporaryFile=lambda dir: Full()))
    require_room(tmp_path, 1_000_000)
    with pytest.raises(
        OSError, match="no room in .* for the 3 MB of checkpoints and weights .No space left"
    ) as refusal:
        require_room(tmp_path, 3_000_000)
    assert refusal.value.errno == errno.ENOSPC
