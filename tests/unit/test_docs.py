"""The page of the API holds all that `smedit` offers."""

import inspect
import re
from pathlib import Path

import smedit

PAGE = Path(__file__).parents[2] / "docs/api.md"


def test_every_public_name_is_on_the_page_of_the_api_once():
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(documented) == sorted(smedit.__all__)


def test_the_list_of_public_names_says_what_their_docstrings_say():
    listed = dict(re.findall(r"^\| `smedit\.(\w+)` \| (.+) \|$", PAGE.read_text("utf-8"), re.M))
    assert listed == {
        name: inspect.getdoc(getattr(smedit, name)).splitlines()[0] for name in smedit.__all__
    }
