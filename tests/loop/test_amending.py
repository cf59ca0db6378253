"""A run that goes on with more rounds or another budget."""

import shutil

import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.amendments import recorded_amendments
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop import engine
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from alloop.results.compare import compare_runs
from alloop.results.status import read_status
from alloop.studies.grid import run_study
from strategies import TABLE
from tests.support import small_tree
from tests.support.people import Annotator, tree_of


def config_of(**changes):
    return parse_config(small_tree(**{"training.iterations": 2, **changes}))


def run(folder, **changes):
    return run_experiment(config_of(**changes), folder, TABLE)


def contents(folder):
    """Return everything that a run recorded, but not how long it took, and its files with their hashes."""
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        tables = {
            name: [tuple(row) for row in ledger.database.read(f"SELECT * FROM {name} ORDER BY 1, 2")]
            for name in ("image", "selection", "charge", "file")
        }
        rounds = [(r.round, r.images, r.boxes, r.metrics, r.per_class, r.diagnostics) for r in ledger.rounds()]
        return tables, rounds, ledger.facts().config


DETECTOR = {"detector.name": "mask_rcnn", "detector.weights": "none"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": {"name": "random"}},
        {"strategy": {"name": "csod"}, "detector.name": "faster_rcnn", "detector.weights": "none"},
        {"strategy": {"name": "el2n"}, **DETECTOR},  # asks for states along the training
        {"training.start": "previous"},
        {"evaluation.keep_detections": True, "loop.min_distance": "4 bits"},
    ],
)
def test_a_finished_run_that_grows_is_the_run_that_began_with_more_rounds(tmp_path, changes):
    run(tmp_path / "grown", **changes, **{"loop.rounds": 1})
    run(tmp_path / "grown", **changes, **{"loop.rounds": 2})
    run(tmp_path / "grown", **changes, **{"loop.rounds": 3})
    run(tmp_path / "whole", **changes, **{"loop.rounds": 3})
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    with read_ledger(tmp_path / "grown") as ledger:
        first, second = recorded_amendments(ledger)
    assert first.changes == {"loop.rounds": ("1", "2")}
    assert str(second) == "after 2 finished rounds: loop.rounds is 3 and was 2"
    with read_ledger(tmp_path / "whole") as ledger:
        assert recorded_amendments(ledger) == []


def test_the_same_command_does_nothing_after_it_has_grown(tmp_path):
    run(tmp_path / "run", **{"loop.rounds": 1})
    run(tmp_path / "run", **{"loop.rounds": 2})
    before = (tmp_path / "run" / "run.db").read_bytes()
    assert len(run(tmp_path / "run", **{"loop.rounds": 2})) == 2
    assert (tmp_path / "run" / "run.db").read_bytes() == before


@pytest.mark.parametrize("stop_at", ["query_and_reveal", "_book", "run_round"])
def test_a_run_that_is_killed_while_it_grows_goes_on(tmp_path, monkeypatch, stop_at):
    run(tmp_path / "grown", **{"loop.rounds": 1})

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine, stop_at, killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "grown", **{"loop.rounds": 3})
    with read_ledger(tmp_path / "grown") as ledger:
        assert audit(ledger) == []
    run(tmp_path / "grown", **{"loop.rounds": 3})
    run(tmp_path / "whole", **{"loop.rounds": 3})
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")
    with read_ledger(tmp_path / "grown") as ledger:
        assert len(recorded_amendments(ledger)) == 1


def test_an_open_run_may_have_other_rounds(tmp_path, monkeypatch):
    original = engine.run_round

    def stopped(context, round_):
        if round_ == 1:
            raise KeyboardInterrupt
        original(context, round_)

    with monkeypatch.context() as patched:
        patched.setattr(engine, "run_round", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "grown", **{"loop.rounds": 4})
    with pytest.raises(ConfigError, match=r"loop\.rounds: 1 is fewer than the 2 rounds that this run has begun"):
        run(tmp_path / "grown", **{"loop.rounds": 1})
    run(tmp_path / "grown", **{"loop.rounds": 2})
    run(tmp_path / "whole", **{"loop.rounds": 2})
    assert contents(tmp_path / "grown") == contents(tmp_path / "whole")


def test_a_run_that_ran_out_of_budget_goes_on_with_more(tmp_path):
    def bought(budget):
        return [r.images for r in run(tmp_path / "run", **{"loop.budget": budget, "loop.rounds": 4})]

    assert bought("9 images") == [6, 9]
    assert bought("13 images") == [6, 9, 13]
    with pytest.raises(ConfigError, match=r"loop\.budget: 12 images is less than the 13 images spent"):
        bought("12 images")
    assert bought(None) == [6, 9, 13, 17]
    with read_ledger(tmp_path / "run") as ledger:
        assert audit(ledger) == []
        assert ledger.facts().budget is None
        last = recorded_amendments(ledger)[-1]
    assert last.changes == {"loop.budget": ("13 images", "none")}


def test_the_audit_asks_for_the_budget_of_now(tmp_path):
    run(tmp_path / "run", **{"loop.budget": "9 images"})
    run(tmp_path / "run", **{"loop.budget": "10 images"})
    with read_ledger(tmp_path / "run") as ledger:
        assert audit(ledger) == []
        assert ledger.spent().images == 10


@pytest.mark.parametrize(
    "changes", [{"loop.query_size": 5}, {"training.lr": 0.1}, {"strategy": {"name": "margin"}}, {"random_seed": 1}]
)
def test_what_changes_the_past_is_refused_beside_more_rounds(tmp_path, changes):
    run(tmp_path / "run", **{"loop.rounds": 1})
    before = (tmp_path / "run" / "run.db").read_bytes()
    with pytest.raises(ConfigError, match="this run began with"):
        run(tmp_path / "run", **changes, **{"loop.rounds": 2})
    assert (tmp_path / "run" / "run.db").read_bytes() == before


def test_it_is_said_and_shown(tmp_path, capsys):
    run(tmp_path / "run", **{"loop.rounds": 1})
    run_experiment(config_of(**{"loop.rounds": 2}), tmp_path / "run", TABLE, progress=Progress())
    words = "after 1 finished rounds: loop.rounds is 2 and was 1"
    assert f"amended {words}" in capsys.readouterr().err
    status = read_status(tmp_path / "run")
    assert f"amended  {words}" in status.lines()
    assert status.progress == "2 of 2 done"


def test_people_are_asked_again_after_the_last_round(files, tmp_path):
    def finish(rounds):
        config = parse_config(tree_of(files, tmp_path / "asked", **{"loop.rounds": rounds, "training.iterations": 2}))
        while True:
            try:
                return run_experiment(config, tmp_path / "run", TABLE)
            except WaitingError:
                annotator.answer(read_status(tmp_path / "run").waiting_round)

    annotator = Annotator(files, tmp_path / "asked")
    assert [r.images for r in finish(1)] == [6]
    assert [r.images for r in finish(3)] == [6, 10, 14]
    whole = parse_config(tree_of(files, **{"loop.rounds": 3, "training.iterations": 2}))
    simulated = run_experiment(whole, tmp_path / "simulated", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert [r.metrics for r in ledger.rounds()] == [r.metrics for r in simulated]
        assert audit(ledger) == []


def test_a_study_grows_and_is_compared(tmp_path):
    for rounds in (2, 3):
        config = config_of(**{"loop.rounds": rounds})
        assert run_study(config, tmp_path / "study", TABLE, strategies=["entropy"], seeds=[0]) == []
    assert {len(one.rounds) for one in compare_runs([tmp_path / "study"]).runs} == {3}
    shutil.copytree(tmp_path / "study", tmp_path / "half")
    run(tmp_path / "half" / "entropy_seed0", **{"loop.rounds": 4})
    assert sorted(len(one.rounds) for one in compare_runs([tmp_path / "half"]).runs) == [3, 4]
