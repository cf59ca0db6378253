"""Where the exchange of a round lies, and whether it is answered. `alloop status` asks, so nothing slow is imported."""

from pathlib import Path

MANIFEST = "manifest.json"  # the last file of a question and of an answer


def exchange_folder(run: Path, round_: int) -> Path:
    """Return the folder of a round's exchange in a run folder."""
    return run / "external" / f"round_{round_:03d}"


def is_unanswered(run: Path, round_: int) -> bool:
    """Return whether a round was asked and its answer is not complete yet."""
    folder = exchange_folder(run, round_)
    return (folder / "ask" / MANIFEST).is_file() and not (folder / "tell" / MANIFEST).is_file()
