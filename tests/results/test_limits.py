"""What keeps a run or a study from an answer."""

from dataclasses import replace

from alloop.ledger.shared_utilities import SharedUtility, shared_utilities
from alloop.ledger.store import RoundRecord, open_ledger
from alloop.results.limits import Limit, Sign, limits, low_rounds, stalled_loss
from alloop.results.losses import Losses
from alloop.results.runs import open_run
from alloop.results.study_limits import study_limits
from alloop.values import ImageId
from tests.support import small_tree
from tests.support.commands import call
from tests.support.runs import run, write_run


def rounds(*values, boxes=(100, 200, 300)):
    return [
        RoundRecord(number, 10 * number, n, {"ap": value}, {}, {})
        for number, (value, n) in enumerate(zip(values, boxes, strict=False))
    ]


def sentences(*args):
    return [limit.sentence for limit in limits(*args)]


def losses(round_, *box_losses, other=None):
    """Return losses of a term that is given, and of one that falls."""
    steps = range(1, len(box_losses) + 1)
    falling = [1 / step for step in steps]
    total = [a + b for a, b in zip(falling, box_losses, strict=True)] if other is None else other
    return Losses(round_, list(steps), total, {"classification": falling, "boxes": list(box_losses)})


def test_a_detector_that_finds_nothing_is_told():
    (line,) = sentences(rounds(0.0, 0.0))
    assert line.startswith("AP is 0 in every round")
    assert limits(rounds(0.0, 0.1)) == limits([]) == limits(rounds(None)) == []


def test_ap_that_falls_while_boxes_rise_is_told():
    (line,) = sentences(rounds(0.30, 0.35, 0.32))
    assert line.startswith("AP fell from 0.350 to 0.320 while boxes rose from 200 to 300: ")
    assert limits(rounds(0.30, 0.35, 0.335)) == [], "trainings differ by as much"
    assert limits(rounds(0.30, 0.35, 0.32, boxes=(100, 300, 300))) == []


def test_accuracy_that_falls_is_told_in_its_own_words():
    records = [
        RoundRecord(k, 10, n, {"accuracy": value, "top5_accuracy": None}, {}, {})
        for k, (n, value) in enumerate([(10, 0.9), (20, 0.8)])
    ]
    (line,) = sentences(records)
    assert line.startswith("accuracy fell from 0.900 to 0.800 while labels rose from 10 to 20")


def test_utilities_that_most_images_share_are_told_for_the_last_such_round():
    first, second = SharedUtility(0, 0.0, 6, 7), SharedUtility(1, 1.0, 3, 4)
    (line,) = sentences([], [first, second])
    assert line.startswith("3 of the 4 images chosen after round 1 have the utility 1: ")
    assert sentences([], [first, SharedUtility(1, 1.0, 1, 2)])[0].startswith("6 of the 7 images chosen after round 0")
    assert limits([], [SharedUtility(0, 1.0, 2, 4)]) == [], "half is not most"
    assert limits([], [SharedUtility(0, 1.0, 1, 1)]) == [], "one image has no other to share with"


def test_the_ledger_counts_the_images_of_one_utility(tmp_path):
    write_run(tmp_path / "run", "entropy", 0, [0.3, 0.4, 0.5])
    with open_ledger(tmp_path / "run") as ledger:
        ledger.select(2, [(rank, ImageId(20 + rank), utility, None) for rank, utility in enumerate([2.5, 1.0, 1.0])])
        shared = shared_utilities(ledger)
    assert [(one.round, one.images, one.chosen) for one in shared] == [(0, 1, 3), (1, 1, 3), (2, 2, 3)]
    assert shared[-1].utility == 1.0


def test_a_loss_that_stands_still_is_one_through_which_nothing_is_learned():
    """A box head that ends in a ReLU predicts boxes of size 0 for ever once its outputs are negative: GIoU loss 1."""
    alive = [1.0 / step for step in range(1, 61)]
    assert stalled_loss(losses(0, *alive)) is None
    assert stalled_loss(losses(0, *alive[:30], *[1.0] * 30)) == ("boxes", 1.0, 31)
    assert stalled_loss(losses(0, *alive[:30], *[0.0] * 30)) is None, "a loss of 0 has nothing left to learn"
    assert stalled_loss(losses(0, *alive[:55], *[1.0] * 5)) is None, "five of sixty steps may be chance"
    assert stalled_loss(losses(0, *[1.0] * 4)) is None, "so may four of four"
    assert stalled_loss(Losses(0, [1, 2, 3], [1.0, 1.0, 1.0], {"boxes": [None, None, None]})) is None
    assert stalled_loss(losses(0, *alive, other=[2.0] * 60)) == ("the total", 2.0, 1)


def test_a_training_that_failed_is_told_instead_of_what_follows_from_it():
    dead = losses(2, *[1 / step for step in range(1, 31)], *[1.0] * 30)
    (limit,) = limits(rounds(0.30, 0.35, 0.0), (), [dead])
    assert limit.sign is Sign.STALLED
    assert limit.sentence.startswith("the training of round 2 failed: its loss boxes stayed at 1 from step 31 on, so ")
    assert "detector.box_start: 1" in limit.sentence
    assert [limit.sign for limit in limits(rounds(0.30, 0.35, 0.0), (), [losses(2, 0.5, 0.4)])] == [Sign.FALLEN]


def test_losses_are_looked_at_of_rounds_with_less_ap_than_before():
    assert low_rounds(rounds(0.30, 0.35, 0.32)) == [2]
    assert low_rounds(rounds(0.30, 0.25, 0.29)) == [1]
    assert low_rounds(rounds(0.0, 0.2, 0.19)) == [0]
    assert low_rounds(rounds(None, 0.2, None)) == []


def test_a_run_reads_what_limits_it(tmp_path):
    write_run(tmp_path / "run", "entropy", 0, [0.4, 0.3])
    csv = "step,lr,loss,boxes\n" + "".join(f"{step},0.1,1.0,1.0\n" for step in range(1, 31))
    with open_ledger(tmp_path / "run") as ledger:
        ledger.store("losses/round_001.csv", csv.encode(), 1)
    (limit,) = open_run(tmp_path / "run").limits
    assert limit.sentence.startswith("the training of round 1 failed: its loss boxes stayed at 1 from step 1 on")
    assert "limit    the training of round 1 failed" in call("status", tmp_path / "run").output
    write_run(tmp_path / "other", "random", 0, [0.3, 0.4])
    output = call("compare", tmp_path / "run", tmp_path / "other").output
    assert "run: the training of round 1 failed" in " ".join(output.split())


def test_a_study_tells_what_limits_its_runs_once():
    tied, failed = Limit(Sign.TIED, "most are tied"), Limit(Sign.STALLED, "it failed")
    study = [replace(run("a", [10, 20], [0.1, 0.2], seed), limits=(tied,)) for seed in range(3)]
    study.append(replace(run("b", [10, 20], [0.1, 0.2]), limits=(failed,)))
    assert study_limits(study, "ap") == [
        "a_seed0: most are tied. The same in a_seed1, a_seed2.",
        "b_seed0: it failed.",
    ]


def test_a_study_tells_where_the_mean_falls_and_not_where_a_seed_does():
    def fallen(last):
        runs = [run("a", [10, 20], [0.3, 0.2], 0), run("a", [10, 20], [0.3, last], 1)]
        return study_limits([replace(one, limits=(Limit(Sign.FALLEN, "AP fell"),)) for one in runs], "ap")

    assert fallen(0.4) == []
    (line,) = fallen(0.3)
    assert line.startswith("a: AP fell from 0.300 to 0.250 while boxes rose from 10 to 20")


def test_a_study_whose_labels_hardly_matter_is_told():
    full = [run("full_label", [100] * 9 + [500], [0.1] * 9 + [0.405])]  # 100 images
    near, far = run("random", [50, 100], [0.2, 0.4]), run("random", [50, 100], [0.2, 0.3])
    (line,) = study_limits([near, *full], "ap50")
    assert line.startswith("With all labels AP50 is 0.405, and random's last round has 0.400 with 20% of the images: ")
    assert study_limits([far, *full], "ap50") == []
    assert study_limits([near], "ap50") == study_limits(full, "ap50") == []
    assert study_limits([near, run("full_label", [90, 99], [0.2, 0.405])], "ap50") == [], "20 of 20 images are all"
    assert study_limits([near, *full], "ap75") == [], "nobody measured it"


def test_status_tells_what_limits_a_run(tmp_path):
    import yaml

    tree = small_tree(**{"loop.rounds": 2, "training.iterations": 1, "detector.weights": "none"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--quiet")
    assert "limit    AP is 0 in every round" in call("status", tmp_path / "run").output
