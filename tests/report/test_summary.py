"""The sentences at the top of the page say what the comparison says, and claim nothing more."""

from dataclasses import replace

import pytest

from alloop.budget.prices import IMAGES
from alloop.report.summary import ends, headline, measure, outlook, results
from alloop.results.compare import Versus, compare_runs, compared
from tests.support.runs import run, stored_study, write_run, write_study

VERSUS = Versus(
    strategy="entropy",
    metric="ap50",
    seeds=5,
    difference=0.052,
    interval=(0.02, 0.084),
    p_value=0.004,
    verdict="better",
    end_difference=0.06,
    end_interval=(0.01, 0.11),
    saving=0.2,
    saving_interval=(0.05, 0.3),
    p_holm=0.012,
    detectable=0.03,
    detectable_interval=(0.02, 0.09),
)


def comparison(*versus, noise=None):
    whole = compared([run("random", [10, 20], [0.1, 0.2]), run("entropy", [10, 20], [0.1, 0.3])], "ap50")
    return replace(whole, versus=versus, replicate_noise=noise)


def text_of(versus, **settings):
    (result,) = results(comparison(versus, **settings))
    return result.text


def test_many_inconclusive_strategies_are_one_sentence():
    unclear = replace(VERSUS, verdict="inconclusive", interval=(-0.01, 0.1), saving=None, saving_interval=None)
    names = ["a", "b", "c", "d"]
    some = [replace(unclear, strategy=name, difference=0.01 * n, detectable=0.1 * n) for n, name in enumerate(names, 1)]
    first, folded = results(comparison(VERSUS, *some))
    assert (first.strategy, folded.strategy, folded.verdict) == ("entropy", "4 strategies", "inconclusive")
    assert folded.text == (
        "inconclusive. d +0.040, c +0.030, b +0.020, a +0.010. With a probability of 80 %, such a study finds a true "
        "difference of 0.100 to 0.400, by strategy. Their intervals are in the table Against random."
    )
    assert len(results(comparison(VERSUS, *some[:3]))) == 4, "three are named one by one"
    alone = [replace(one, interval=None, detectable=None) for one in some]
    assert len(results(comparison(*alone))) == 4, "what no interval supports is not put into one sentence"


def test_a_verdict_has_its_difference_interval_p_seeds_and_saving():
    assert text_of(VERSUS) == (
        "better than random, +0.052 AP50 (+0.020 to +0.084; p = 0.012; 5 seeds). "
        "It needs 20% fewer boxes (5% to 30%) for the same AP50."
    )
    worse = replace(VERSUS, verdict="worse", difference=-0.052, saving=-0.2, saving_interval=(-0.3, -0.05))
    assert text_of(worse).startswith("worse than random, -0.052 AP50")
    assert "It needs 20% more boxes (5% to 30%)" in text_of(worse)
    assert "p < 0.001" in text_of(replace(VERSUS, p_holm=0.0002))


@pytest.mark.parametrize(
    ("changes", "noise", "reason"),
    [
        ({"interval": None, "p_holm": None, "seeds": 1}, None, "One seed says nothing about chance."),
        ({"interval": None, "p_holm": None}, None, "The seeds do not differ."),
        ({"interval": (-0.01, 0.1)}, None, "The interval contains 0. With a probability of 80 %, such a study finds"),
        ({"p_holm": 0.06}, None, "The interval by itself excludes 0, but p is not below 0.05."),
        ({}, 0.1, "The difference is within the replicate noise of 0.1000."),
        (
            {"interval": (-0.01, 0.1), "detectable": None},
            None,
            "With 5 seeds this test gives no verdict, however large",
        ),
    ],
)
def test_without_a_verdict_the_reason_and_no_saving_is_given(changes, noise, reason):
    """Also where a saving were computed."""
    text = text_of(replace(VERSUS, verdict="inconclusive", **changes), noise=noise)
    assert text.startswith("inconclusive, +0.052 AP50")
    assert reason in text
    assert "needs" not in text
    assert "boxes" not in text


def test_what_the_study_could_have_found_is_said_with_its_range():
    text = text_of(replace(VERSUS, verdict="inconclusive", interval=(-0.01, 0.1)))
    assert "finds a true difference of 0.030 (0.020 to 0.090, as far as 5 seeds tell)" in text
    assert "finds a true difference" not in text_of(VERSUS)


def test_the_best_come_first_and_the_open_ones_last():
    names = {"a": ("inconclusive", 0.3), "b": ("worse", -0.1), "c": ("better", 0.1), "d": ("better", 0.2)}
    many = [replace(VERSUS, strategy=name, verdict=v, difference=d) for name, (v, d) in names.items()]
    assert [result.strategy for result in results(comparison(*many))] == ["d", "c", "b", "a"]
    assert headline(comparison(*many)) == (
        "Of 4 strategies, 2 are better than random, 1 is worse than random and 1 is inconclusive."
    )
    assert "p is corrected by Holm for 4 comparisons" in measure(comparison(*many))
    assert "Holm" not in measure(comparison(VERSUS))


def test_one_strategy_needs_no_counting():
    assert headline(comparison(VERSUS)) == "entropy is better than random."
    undecided = replace(VERSUS, verdict="inconclusive")
    assert headline(comparison(undecided)) == "It remains open whether entropy is better or worse than random."


def test_every_strategy_of_a_study_has_one_entry_with_the_figures_of_the_comparison(tmp_path):
    study = stored_study(tmp_path, {"good": 0.03, "same": 0.0, "bad": -0.03})
    whole = compare_runs([study], "ap50")
    said = {result.strategy: result for result in results(whole)}
    for versus in whole.versus:
        low, high = versus.interval
        assert said[versus.strategy].verdict == versus.verdict
        assert f"{versus.difference:+.3f} AP50 ({low:+.3f} to {high:+.3f}; p" in said[versus.strategy].text
        assert ("It needs" in said[versus.strategy].text) == (versus.verdict != "inconclusive")
    assert {versus.verdict for versus in whole.versus} == {"better", "worse", "inconclusive"}
    assert [result.strategy for result in ends(whole)] == ["random"]
    assert len(said) == len(whole.versus) == 3


def test_a_single_run_says_where_it_ended_and_why_nothing_is_compared(tmp_path):
    write_run(tmp_path / "r", "entropy", 0, [0.1, 0.25])
    whole = compare_runs([tmp_path / "r"], "ap50")
    (record,) = (run.rounds[-1] for run in whole.runs)
    (end,) = ends(whole)
    paid = f"trained on {record.images} images with {record.boxes} boxes."
    assert end.text == f"AP 0.250 and AP50 0.250 after round 1, {paid}"
    assert headline(whole) == "No strategy is compared here: there is no run of random to compare with."
    assert (results(whole), measure(whole)) == ([], "")


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        ([run("random", [10, 20], [0.1, 0.2])], "there is no run of a strategy besides random"),
        (
            [run("random", [10, 20], [0.1, 0.2]), run("entropy", [30, 40], [0.1, 0.2], seed=1)],
            "under no seed do the curves cover the same boxes",
        ),
        ([run("random", [], [])], "there is no run of a strategy besides random"),
    ],
)
def test_where_nothing_can_be_compared_the_reason_is_given(runs, reason):
    assert headline(compared(runs, "ap")) == f"No strategy is compared here: {reason}."


def test_means_over_seeds_say_so(tmp_path):
    whole = compare_runs([write_study(tmp_path)], "ap")
    (random,) = ends(whole)
    assert random.text.startswith("AP 0.205 and AP50 0.205 after round 1, ")
    assert random.text.endswith(", mean over 2 seeds.")


def test_a_single_run_says_how_it_goes_on_and_others_do_not():
    one = run("entropy", [10, 20, 40, 80], [0.1, 0.2, 0.28, 0.33])
    text = outlook(compared([one], "ap50"))
    assert text.startswith("Forecast: AP50 0.")
    assert text.endswith(" after 160 boxes, twice the boxes paid.")
    assert outlook(compared([one], "ap50", cost=IMAGES)) == ""
    assert outlook(compared([run("entropy", [10, 20], [0.1, 0.2])], "ap50")) == ""
    assert outlook(compared([one, run("random", [10, 20, 40], [0.1, 0.2, 0.3])], "ap50")) == ""
