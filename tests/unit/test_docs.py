"""The page of the API holds all that `smedit` offers."""

import re
from pathlib import Path

import smedit

PAGE = Path(__file__).parents[2] / "docs/api.md"


def test_every_public_name_is_on_the_page_of_the_api_once():
    documented = re.findall(r"^\.\. auto\w+:: (\w+)$", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(documented) == sorted(smedit.__all__)
