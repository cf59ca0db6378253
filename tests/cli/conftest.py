"""One finished run for all tests of the commands."""

import pytest
import yaml

from tests.support import small_tree
from tests.support.commands import call


@pytest.fixture(scope="package")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "c.yaml").write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 2})))
    call("run", folder / "c.yaml", "--out", folder / "run", "--quiet")
    return folder
