import random
import warnings

import pytest
import torch

from course_utils.storage.checkpoints import CheckpointFolder

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
