"""The commands that choose a part of an annotated set: `prune` and `prune-study`."""

from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import ConfigFile, Overrides, Quiet, Seeds, Workers, names_of, numbers_of
from alloop.cli.runs import refuse_failures
from alloop.cli.strategies import Strategies, strategy_table


def prune(
    annotations: Annotated[Path, typer.Argument(help="The whole set as a COCO JSON file, plain or gzipped.")],
    strategy: Annotated[str, typer.Option(help="The strategy that chooses, for example tfdp, csod or random.")],
    out: Annotated[Path, typer.Option(help="Where to write the subset as COCO JSON; kept records keep their bytes.")],
    keep: Annotated[float | None, typer.Option(help="Share of the images to keep, for example 0.5.")] = None,
    images: Annotated[int | None, typer.Option(help="Number of images to keep, instead of --keep.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="Also write a CSV file with image_id, score, rank and kept of every image.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Experiment whose detector is trained on the whole set, for strategies that need one."),
    ] = None,
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="Set a parameter of the strategy: --set contour=first. "
            "--set instances=FILE also writes a score for each instance. Repeatable.",
        ),
    ] = [],  # noqa: B006  typer needs a list
    random_seed: Annotated[int, typer.Option("--seed", help="Seed of all random choices.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Choose the images of an annotated set that are worth training on, and write them as a new file.

    Example: alloop prune instances_train.json --strategy tfdp --keep 0.5 --out half.json
    """
    from alloop.config.overrides import parsed_override  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.pruning.coco_file import FilePruning  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    parameters = dict(map(parsed_override, overrides))
    instances = parameters.pop("instances", None)
    pruning = FilePruning(
        annotations=annotations,
        strategy=strategy,
        out=out,
        table=strategy_table(),
        parameters=parameters,
        keep=keep,
        images=images,
        scores=scores,
        instances=None if instances is None else Path(str(instances)),
        config=config,
        random_seed=random_seed,
    )
    show(*pruning.run(Progress(quiet=quiet)))


def prune_study(
    config: ConfigFile,
    strategies: Strategies,
    keep: Annotated[str, typer.Option(help="Shares of the images to keep, comma-separated.")] = "0.3,0.5",
    seeds: Seeds = "0,1,2",
    workers: Workers = 1,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/<config name>_pruned by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Prune by several strategies, train on every subset and on the whole set, and compare.

    The same command resumes a study that was stopped.

    Example: alloop prune-study configs/tfdp_voc.yaml --strategies tfdp,csod --keep 0.5
    """
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.pruning.report import write_pruned  # noqa: PLC0415
    from alloop.pruning.study import PruneStudy  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    study = PruneStudy(
        load_config(config, overrides),
        out or Path("runs") / f"{config.stem}_pruned",
        strategy_table(),
        names=names_of(strategies),
        keeps=numbers_of("--keep", keep, float),
        seeds=numbers_of("--seeds", seeds, int),
        workers=workers,
    )
    failures = study.run(Progress(quiet=quiet), quiet=quiet)
    show(*write_pruned(study.results(), study.out))
    refuse_failures(failures)
