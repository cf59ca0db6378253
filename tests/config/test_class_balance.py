"""The block `training.class_balance`: defaults are written out, wrong keys and contradictions are refused."""

import pytest

from alloop.config import parse_config
from alloop.config.class_balance import ClassifierRetraining, EqualizationLoss, LogitAdjustment
from alloop.config.reading import changed
from alloop.config.tables import CLASS_BALANCE
from alloop.errors import ConfigError
from alloop.loop.beginning import refuse_other_config
from tests.support import small_tree

DEFAULTS = {
    "logit_adjustment": LogitAdjustment(tau=1.0),
    "classifier_retraining": ClassifierRetraining(share=1 / 9),
    "equalization_loss": EqualizationLoss(gamma=12.0, mu=0.8, alpha=4.0),
}


def config(block, **changes):
    return parse_config(small_tree(**{"training.class_balance": block, **changes}))


def test_there_is_none_by_default():
    assert parse_config(small_tree()).training.class_balance is None
    assert "class_balance: null" in parse_config(small_tree()).to_yaml()


@pytest.mark.parametrize("name", CLASS_BALANCE)
def test_the_published_defaults_are_written_out_and_read_again(name):
    made = config({"name": name})
    assert made.training.class_balance.method == DEFAULTS[name]
    assert len(made.model_dump(mode="json")["training"]["class_balance"]) > 1
    assert parse_config(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"name": "logit_adjustment", "taw": 1}, r"training\.class_balance\.taw: .*did you mean 'tau'"),
        ({"name": "logit_adjustment", "alpha": 1}, r"training\.class_balance\.alpha: .*has no such parameter"),
        ({"name": "logit_ajustment"}, r"training\.class_balance\.name: .*did you mean 'logit_adjustment'"),
        ({"name": "own:Method"}, r"training\.class_balance\.name: there is no method 'own:Method'"),
        ({"tau": 1.0}, r"training\.class_balance\.name: this key is required"),
        ({"name": "logit_adjustment", "tau": 0}, r"training\.class_balance\.tau: .*greater than 0, found 0"),
        ({"name": "classifier_retraining", "share": 1.5}, r"training\.class_balance\.share: .*less than or equal to 1"),
        ({"name": "equalization_loss", "gamma": "x"}, r"training\.class_balance\.gamma: .*found 'x'"),
        ("logit_adjustment", r"training\.class_balance: .*found 'logit_adjustment'"),
    ],
)
def test_a_wrong_key_is_named(block, words):
    with pytest.raises(ConfigError, match=words):
        config(block)


GBR = {"gradient_balance": True}
FOCAL = {"style": "unbiased_teacher"}


@pytest.mark.parametrize(
    ("name", "semi", "words"),
    [
        ("logit_adjustment", GBR, "GbR has done so already"),
        ("equalization_loss", GBR, "both replace the loss by which regions are classified"),
        ("equalization_loss", FOCAL, "take style: soft_teacher"),
        ("classifier_retraining", GBR, None),
        ("classifier_retraining", FOCAL, None),
        ("logit_adjustment", FOCAL, None),
        ("logit_adjustment", {}, None),
        ("equalization_loss", {}, None),
    ],
)
def test_what_contradicts_each_other_is_refused(name, semi, words):
    changes = {"training.semi_supervised": semi, "detector.name": "faster_rcnn"}
    if words is None:
        assert config({"name": name}, **changes).training.class_balance.name == name
        return
    with pytest.raises(ConfigError, match=rf"training: class_balance: .*{words}"):
        config({"name": name}, **changes)


def test_a_run_does_not_go_on_with_another_method(tmp_path):
    plain = parse_config(small_tree())
    balanced = config({"name": "logit_adjustment"})
    other = changed(balanced, {"training.class_balance.tau": 2.0})
    for before, now in ((plain, balanced), (balanced, plain), (balanced, other)):
        with pytest.raises(ConfigError, match=r"training\.class_balance"):
            refuse_other_config(tmp_path, before.to_yaml(), now)
    refuse_other_config(tmp_path, balanced.to_yaml(), balanced)
    without = plain.to_yaml().replace("  class_balance: null\n", "")
    assert "class_balance" not in without
    refuse_other_config(tmp_path, without, plain)
