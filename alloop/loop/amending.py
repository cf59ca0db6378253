"""A run that goes on under another number of rounds or another budget than it began with.

Only what lies ahead may change: neither key had a say in what the finished rounds trained on, except that a budget may
have cut the last purchase. So a run that is amended before it ends is the same as one that began that way, to the byte.
Every other key of the config is refused (`alloop.loop.beginning`).
"""

from dataclasses import replace

import yaml

from alloop.config import ExperimentConfig, parse_config
from alloop.errors import ConfigError
from alloop.files import sha256_of
from alloop.ledger.amendments import Amendment, record_amendment, recorded_amendments
from alloop.ledger.facts import RunFacts
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import Ledger

AMENDABLE = ("rounds", "budget")  # keys of the block loop
FACTS = ("config", "config_sha256", "rounds_planned", "budget")  # what an amendment changes


def amended(ledger: Ledger, facts: RunFacts, config: ExperimentConfig) -> tuple[RunFacts, Amendment | None]:
    """Return the facts of a run under a config, and what that changes; all other keys stay as they are recorded.

    Raises:
        ConfigError: fewer rounds than there are, or a budget below what is spent.
    """
    tree = yaml.safe_load(facts.config)
    before, now = parse_config(tree).loop, config.loop
    changes = {
        f"loop.{key}": (_words(getattr(before, key)), _words(getattr(now, key)))
        for key in AMENDABLE
        if getattr(before, key) != getattr(now, key)
    }
    if not changes:
        return facts, None
    finished = len(ledger.rounds())
    _refuse_what_is_past(ledger, config, finished + (0 if is_at_rest(ledger) else 1))
    tree["loop"] |= {"rounds": now.rounds, "budget": None if now.budget is None else str(now.budget)}
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    since = replace(
        facts, config=text, config_sha256=sha256_of(text.encode()), rounds_planned=now.rounds, budget=now.budget
    )
    return since, Amendment(finished, changes)


def _words(value: object) -> str:
    return "none" if value is None else str(value)


def _refuse_what_is_past(ledger: Ledger, config: ExperimentConfig, begun: int) -> None:
    rounds, budget, spent = config.loop.rounds, config.loop.budget, ledger.spent()
    if rounds < begun:
        msg = f"{ledger.folder}: loop.rounds: {rounds} is fewer than the {begun} rounds that this run has begun"
        raise ConfigError(msg)
    if budget is not None and budget.number < spent.of(budget.unit):
        msg = f"{ledger.folder}: loop.budget: {budget} is less than the {spent.of(budget.unit)} {budget.unit} spent"
        raise ConfigError(msg)


def record(ledger: Ledger, facts: RunFacts, amendment: Amendment) -> None:
    """Record an amendment with the facts that hold since."""
    rows = facts.rows()
    record_amendment(ledger, amendment, {name: rows[name] for name in FACTS})


def is_at_rest(ledger: Ledger) -> bool:
    """Return whether no round is open or waits for people."""
    return ledger.open_round() is None and AnnotationRequests(ledger).pending() is None


def wants_more(ledger: Ledger, facts: RunFacts, amendment: Amendment | None = None) -> bool:
    """Return whether a run at rest was amended since its last round, and so has to ask its strategy again.

    `amendment` is one that is not recorded yet.
    """
    finished, amendments = len(ledger.rounds()), recorded_amendments(ledger)
    last = amendment or (amendments[-1] if amendments else None)
    return last is not None and last.finished_rounds == finished < (facts.rounds_planned or 0)
