"""Where a run or a study stands, read from the ledgers while they may be written."""

from pathlib import Path

from alloop.ledger import read_ledger, run_folders


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
        steps = [step for _, _, step in ledger.files(current) if step is not None] if current is not None else []
    state = f"round {current} is open" if current is not None else "finished" if rounds else "not begun"
    at_step = f"; training checkpoint at step {max(steps)}" if steps else ""
    budget = f"; budget {facts['budget']}" if facts.get("budget") else "; no budget"
    lines = [
        f"strategy {facts.get('strategy', '?')}, random seed {facts.get('random_seed', '?')}: {state}",
        f"rounds   {len(rounds)} of {facts.get('rounds_planned', '?')} done{at_step}",
        f"paid     {spent.images} of {pool} images, {spent.boxes} boxes{budget}",
    ]
    if rounds:
        values = rounds[-1].metrics
        told = next((record for record in reversed(rounds) if record.notes), None)
        if told is not None:
            notes = ", ".join(f"{name} {value:.4g}" for name, value in told.notes.items())
            lines.append(f"query    after round {told.round}: {notes}")
        lines.append("last     " + ", ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None))
    return lines
