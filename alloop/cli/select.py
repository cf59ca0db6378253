"""`alloop select`: which images next, from files alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alloop.cli.data import FORMATS_HELP
from alloop.cli.options import Quiet, names_of
from alloop.errors import ConfigError, DataError

if TYPE_CHECKING:
    from alloop.predictions.selecting import Chosen


def select(
    pool: Annotated[Path, typer.Argument(help="The images: annotations in any format, or a folder of images.")],
    strategy: Annotated[str, typer.Option(help="Name of the strategy; `alloop strategies` lists them.")],
    out: Annotated[Path, typer.Option(help="CSV file to write: rank, image_id, file_name, utility, predicted_boxes.")],
    predictions: Annotated[
        list[Path],
        typer.Option(
            help="Your detector's predictions of the pool: COCO results (JSON), CSV, or a folder of YOLO text files "
            "with confidences. Repeatable, with other images in each."
        ),
    ] = [],  # noqa: B006
    images: Annotated[int | None, typer.Option(help="How many images to choose.", min=1)] = None,
    boxes: Annotated[int | None, typer.Option(help="Choose images until this many boxes are predicted.", min=1)] = None,
    labeled: Annotated[Path | None, typer.Option(help="Annotations of what is labeled already, in any format.")] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="A .npy file with a row of numbers for each image, in the order of the pool.")
    ] = None,
    embedding_ids: Annotated[
        Path | None, typer.Option(help="The image of each row of --embeddings, an id or file name on each line.")
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(help="A .npy file with a row of numbers for each row of the predictions, which are one file."),
    ] = None,
    labeled_regions: Annotated[
        Path | None,
        typer.Option(help="A .npy file with a row for each labeled box, image by image in the order of their file."),
    ] = None,
    noisy: Annotated[
        list[str],
        typer.Option(
            help="SIGMA=FILE: predictions of the same images with noise of this standard deviation. Repeatable."
        ),
    ] = [],  # noqa: B006
    from_: Annotated[
        str | None, typer.Option("--from", help="Format of the predictions: coco, csv, yolo. Guessed by default.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class names, comma-separated, where no file names them.")] = "",
    overrides: Annotated[
        list[str], typer.Option("--set", help="Parameter of the strategy: --set aggregation=mean. Repeatable.")
    ] = [],  # noqa: B006
    count_above: Annotated[
        float | None, typer.Option(help="Score from which on a detection counts as a box. Fitted to --labeled.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    tasks: Annotated[
        Path | None, typer.Option(help="Folder to write the chosen images into, with their predicted boxes.")
    ] = None,
    to: Annotated[str, typer.Option("--to", help=f"Format of --tasks: {FORMATS_HELP}.")] = "coco",
    quiet: Quiet = False,
) -> None:
    """Choose which images to annotate next from your own detector's predictions. Nothing is trained or remembered."""
    from alloop.cli.strategies import strategy_table  # noqa: PLC0415
    from alloop.files import atomic_write  # noqa: PLC0415
    from alloop.predictions.selecting import Files  # noqa: PLC0415
    from alloop.predictions.selecting import select as choose  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415

    _refuse_existing(out, tasks)
    files = Files(
        pool,
        tuple(predictions),
        from_,
        labeled,
        embeddings,
        embedding_ids,
        dict(map(_noisy, noisy)),
        tuple(names_of(classes)),
        regions,
        labeled_regions,
    )
    chosen = choose(
        files,
        strategy,
        strategy_table(),
        images=images,
        boxes=boxes,
        parameters=_parameters(overrides),
        random_seed=seed,
        count_above=count_above,
        progress=Progress(quiet=quiet),
    )
    if tasks is not None:
        _write_tasks(chosen, tasks, to)
    atomic_write(out, chosen.to_csv().encode())
    for note in chosen.notes:
        print(f"noted: {note}")
    print(f"{out}: {_summary(chosen)}{'' if tasks is None else f'; tasks in {tasks}'}")


def _refuse_existing(*paths: Path | None) -> None:
    """Check that nothing is overwritten."""
    for path in filter(None, paths):
        if path.exists():
            msg = f"{path}: exists already; nothing is overwritten"
            raise DataError(msg)


def _summary(chosen: "Chosen") -> str:
    """Return in words how much was chosen."""
    expected = "" if chosen.predicted_boxes is None else f", {sum(chosen.predicted_boxes):g} boxes predicted on them"
    return f"{len(chosen.images)} images{expected}"


def _parameters(overrides: list[str]) -> dict[str, Any]:
    from alloop.config.overrides import parsed_override  # noqa: PLC0415

    return dict(map(parsed_override, overrides))


def _noisy(text: str) -> tuple[float, Path]:
    """Read SIGMA=FILE."""
    sigma, _, path = text.partition("=")
    try:
        return float(sigma), Path(path)
    except ValueError as error:
        msg = f"--noisy: expected SIGMA=FILE such as 8=noisy8.json, found {text!r}"
        raise ConfigError(msg) from error


def _write_tasks(chosen: "Chosen", folder: Path, to: str) -> None:
    """Write the chosen images with their predicted boxes in an annotation format."""
    from alloop.data.formats.table import annotation_format  # noqa: PLC0415
    from alloop.files import atomic_write  # noqa: PLC0415
    from alloop.oracles.tasks import records_of, scores_of  # noqa: PLC0415

    records = records_of(chosen.tasks, chosen.class_names)
    for path, data in annotation_format(to, "--to").task_files(folder, records, scores_of(chosen.tasks)).items():
        atomic_write(path, data)
