"""The public functions, as a script calls them."""

import subprocess
import sys

import pytest
import yaml

from alloop.errors import ConfigError
from strategies import TABLE
from tests.support import small_tree


@pytest.mark.parametrize(
    "code",
    ["import alloop", "import alloop.cli.app, alloop.results.compare, alloop.ledger.store, strategies"],
)
def test_torch_is_not_imported(code):
    check = f"{code}; import sys; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_python_api_in_a_few_lines(tmp_path):
    import alloop

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 1})))
    config = alloop.load_config(str(tmp_path / "c.yaml"))
    rounds = alloop.run_experiment(config, str(tmp_path / "run"), TABLE, shared=str(tmp_path / "models"))
    assert rounds[0].boxes > 0
    for folders in (str(tmp_path / "run"), tmp_path / "run", [tmp_path / "run"]):
        assert alloop.compare_runs(folders).runs[0].strategy == "entropy"
    run = alloop.open_run(str(tmp_path / "run"))
    boxes, ap = run.curve("ap")
    assert boxes.tolist() == [rounds[0].boxes]
    assert ap.tolist() == [rounds[0].metrics["ap"]]
    failures = alloop.run_study(config, str(tmp_path / "study"), TABLE, strategies=["random"], seeds=[0], quiet=True)
    assert not failures
    with pytest.raises(AttributeError):
        alloop.nothing  # noqa: B018
    with pytest.raises(ConfigError):
        alloop.compare_runs([tmp_path / "nothing"])
    with pytest.raises(ConfigError, match="expected a run folder"):
        alloop.open_run(tmp_path / "nothing")
