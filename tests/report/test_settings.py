"""The settings of strategies, and what differs between runs."""

from dataclasses import replace

import pytest
import yaml

from alloop.ledger.facts import Environment
from alloop.report.page import write_report
from alloop.report.settings import differences, strategy_settings, value_text
from alloop.results.compare import compare_runs
from alloop.results.runs import find_runs
from strategies import TABLE
from strategies.entropy import Entropy
from tests.support.runs import run, write_run, write_study


def configured(strategy, seed=0, environment=None, **config):
    tree = {"strategy": {"name": strategy}, "random_seed": seed, **config}
    made = run(strategy, [10, 20], [0.1, 0.2], seed)
    return replace(
        made, facts=replace(made.facts, config=yaml.safe_dump(tree), environment=environment or Environment())
    )


def test_every_parameter_of_a_built_in_strategy_is_there_once(tmp_path):
    write_run(tmp_path / "entropy_seed0", "entropy", 0, [0.1, 0.2], aggregation="max")
    (settings,) = strategy_settings(find_runs([tmp_path]), TABLE)
    assert settings.given == {"aggregation": "max"}
    assert settings.defaults == {"score_threshold": Entropy().score_threshold, "belief": Entropy().belief}


def test_two_settings_of_one_strategy_are_told_apart(tmp_path):
    write_run(tmp_path / "a_seed0", "entropy", 0, [0.1, 0.2], aggregation="max")
    write_run(tmp_path / "b_seed0", "entropy", 0, [0.1, 0.2])
    given = {one.strategy: one.given for one in strategy_settings(find_runs([tmp_path]), TABLE)}
    assert given == {"entropy (aggregation=max)": {"aggregation": "max"}, "entropy (defaults)": {}}


def test_a_strategy_of_somebody_else_is_never_imported():
    """A page about a folder from elsewhere runs no code that the folder names."""
    own = replace(
        configured("x"), facts=replace(run("x", [1], [0.1]).facts, config="strategy: {name: 'no.module:X', k: 3}")
    )
    (settings,) = strategy_settings([own], TABLE)
    assert (settings.given, settings.defaults) == ({"k": 3}, None)


def test_equal_configs_differ_in_nothing_but_strategy_and_seed():
    runs = [configured(name, seed, training={"lr": 0.1}) for name in ("random", "entropy") for seed in (0, 1)]
    assert differences(runs) == []


def test_a_key_that_differs_names_every_value_and_who_has_it():
    runs = [configured(name, seed, training={"lr": lr}) for name, seed, lr in
            [("random", 0, 0.1), ("random", 1, 0.1), ("entropy", 0, 0.2), ("entropy", 1, 0.1)]]  # fmt: skip
    (one,) = differences(runs)
    assert one.key == "training.lr"
    assert one.values == {"0.1": ["random", "entropy_seed1"], "0.2": ["entropy_seed0"]}


def test_keys_that_only_some_configs_have_and_other_machines_are_differences():
    old = configured("random", environment=Environment(torch="2.10"), loop={"rounds": 2})
    new = configured("entropy", environment=Environment(torch="2.14"), loop={"rounds": 2, "per_group": None})
    found = {one.key: dict(one.values) for one in differences([old, new])}
    assert found == {
        "loop.per_group": {"not recorded": ["random"], "null": ["entropy"]},
        "environment.torch": {"2.10": ["random"], "2.14": ["entropy"]},
    }


def test_the_command_is_no_difference():
    runs = [configured(name, environment=Environment(command=name)) for name in ("random", "entropy")]
    assert differences(runs) == []


@pytest.mark.parametrize(("value", "text"), [(None, "null"), (True, "true"), ([1, "a"], '[1, "a"]'), ("x: y", "x: y")])
def test_values_are_written_as_in_a_config(value, text):
    assert value_text(value) == text


def test_the_page_has_the_parameters_of_all_strategies_escaped(tmp_path):
    evil = "<b>&amp;"
    for seed in range(2):
        write_run(tmp_path / f"random_seed{seed}", "random", seed, [0.1, 0.2])
        write_run(tmp_path / f"entropy_seed{seed}", "entropy", seed, [0.1, 0.4], aggregation="max", note=evil)
    page = write_report(compare_runs([tmp_path]), tmp_path / "r.html", "study", TABLE)[0].read_text()
    assert "aggregation: max" in page
    assert "belief: posterior" in page
    assert "note: &lt;b&gt;&amp;amp;" in page
    assert "configs and environments of all runs are equal" in page


def test_without_the_table_of_strategies_the_defaults_are_unknown(tmp_path):
    page = write_report(compare_runs([write_study(tmp_path)]), tmp_path / "r.html", "study")[0].read_text()
    assert '<td class="wide">unknown</td>' in page
