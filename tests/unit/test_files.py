import errno

import pytest

from smedit.errors import UserError
from smedit.files import replacing


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    message = (
        r"result\.json: cannot be written \(No space left .*\); make room .* same command again"
    )
    with pytest.raises(UserError, match=message), replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"


def test_success_replaces_it(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert len(list(tmp_path.iterdir())) == 1
