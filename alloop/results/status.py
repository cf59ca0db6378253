"""Where a run or a study stands, read from the ledgers while they may be written."""

from pathlib import Path

from alloop.ledger.requests import AnnotationRequests, RoundAnswers
from alloop.ledger.store import read_ledger, run_folders
from alloop.results.stopping import advice


def status_lines(folder: Path) -> list[str]:
    """Several lines about a run, one line a run about a study."""
    folders = run_folders(folder)
    if folders == [folder]:
        return _run_lines(folder)
    return [f"{f.name:<28} {_run_lines(f)[0].partition(': ')[2]:<16} {_run_lines(f)[1]}" for f in folders]


def _run_lines(folder: Path) -> list[str]:
    with read_ledger(folder) as ledger:
        facts, rounds, spent, current = ledger.facts(), ledger.rounds(), ledger.spent(), ledger.open_round()
        pool = ledger.pool_size()
        questions = AnnotationRequests(ledger)
        told_by_people, waiting = questions.told(), questions.pending()
        asked = questions.of_round(waiting) if waiting is not None else []
        steps = [step for _, _, step in ledger.files(current) if step is not None] if current is not None else []
    state = f"round {current} is open" if current is not None else "finished" if rounds else "not begun"
    if waiting is not None:
        state = f"round {waiting} waits for people"
    at_step = f"; training checkpoint at step {max(steps)}" if steps else ""
    budget = f"; budget {facts['budget']}" if facts.get("budget") else "; no budget"
    lines = [
        f"strategy {facts.get('strategy', '?')}, random seed {facts.get('random_seed', '?')}: {state}",
        f"rounds   {len(rounds)} of {facts.get('rounds_planned', '?')} done{at_step}",
        f"paid     {spent.images} of {pool} images, {spent.boxes} boxes{budget}",
    ]
    if rounds:
        values = rounds[-1].metrics
        told = next((record for record in reversed(rounds) if record.diagnostics), None)
        if told is not None:
            notes = ", ".join(f"{name} {value:.4g}" for name, value in told.diagnostics.items())
            lines.append(f"query    after round {told.round}: {notes}")
        lines.append("last     " + ", ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None))
    lines += [f"people   {people_line(told)}" for told in told_by_people]
    if asked:
        expected = sum(question.predicted_boxes for question in asked)
        lines.append(
            f"asked    {len(asked)} images, {expected:.0f} boxes predicted; run the same command to look for answers"
        )
    if rounds and (told_by_people or asked):
        lines.append(f"advice   {advice_for(folder)}")
    return lines


def advice_for(folder: Path) -> str:
    """Whether another round of a run pays, from its curve, its charges and what it asks for next."""
    with read_ledger(folder) as ledger:
        rounds, charged, questions = ledger.rounds(), ledger.charged(), AnnotationRequests(ledger)
        waiting = questions.pending()
        asked = questions.of_round(waiting) if waiting is not None else []
    points = [(r.boxes, value) for r in rounds if (value := r.metrics["ap"]) is not None]
    boxes, cost = sum(c.boxes for c in charged), sum(c.cost for c in charged)
    ahead = sum(question.predicted_boxes for question in asked) or charged[-1].boxes
    return advice([b for b, _ in points], [a for _, a in points], ahead, cost / boxes if boxes else 1.0)


def people_line(told: RoundAnswers) -> str:
    """What came of one round of questions."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(told.states.items()))
    predicted = f" (predicted {told.predicted_boxes:.0f})" if told.predicted_boxes else ""
    text = f"round {told.round}: {states}; {told.boxes} boxes{predicted}, cost {told.cost:.2f}"
    if told.seconds or told.set_aside_seconds:
        text += f", {told.seconds + told.set_aside_seconds:.0f} s of work"
    shown = told.accepted + told.moved + told.deleted
    if shown:
        kept = f"{told.accepted} accepted, {told.moved} moved, {told.deleted} deleted"
        text += f"; of {shown} boxes shown {kept}; {told.added} added"
    return text
