"""What `alloop check-data --against` and `--duplicates` add to the validation."""

from dataclasses import replace
from pathlib import Path

from alloop.data.leak_check import LeakOptions, LeakReport, check_leaks
from alloop.progress import Progress


def look_for_leaks(
    annotations: Path, images: Path | None, options: LeakOptions, config: Path | None, *, quiet: bool
) -> LeakReport:
    """Compare a data set with others, by the embeddings of a detector too where a config or run names one.

    Raises:
        ConfigError: an image folder that is not there, or a detector that gives no embeddings.
        DataError: annotations that cannot be read.
    """
    progress = Progress(quiet=quiet)
    if config is not None:
        from alloop.cli.strategies import strategy_table  # noqa: PLC0415
        from alloop.loop.embeddings import embedder  # noqa: PLC0415  it imports torch

        options = replace(options, embed=embedder(config, strategy_table(), progress))
    report = check_leaks(annotations, images, options, progress)
    last = [f"leaks: {report.leaks}"] if options.others else []
    return replace(report, lines=[*report.lines, *last])
