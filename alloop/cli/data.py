"""The commands about annotation files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from alloop.cli.check import check_experiment, is_config
from alloop.cli.options import Quiet
from alloop.data.formats.table import FORMATS, annotation_format, guess_format
from alloop.errors import AlloopError, ConfigError
from alloop.files import refuse_missing

FORMATS_HELP = f"{', '.join(FORMATS)} or your own 'package.module:FORMAT'"


def check_data(
    annotations: Annotated[
        Path, typer.Argument(help="File or folder with annotations, or the config of an experiment, a YAML file.")
    ],
    images: Annotated[Path | None, typer.Option(help="Also decode every image of this folder.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help=f"Format: {FORMATS_HELP}. Guessed by default.")] = None,
    against: Annotated[
        list[str],
        typer.Option(
            help="Also look for images that this data set shares with the first one: OTHER or OTHER=IMAGES, where "
            "IMAGES is its image folder if that is not the folder of --images. Repeatable."
        ),
    ] = [],  # noqa: B006
    duplicates: Annotated[bool, typer.Option("--duplicates", help="Also look for images that look alike.")] = False,
    distance: Annotated[
        int,
        typer.Option(
            help="Images look alike whose perceptual hashes differ in at most this number of bits.", min=0, max=16
        ),
    ] = 8,
    config: Annotated[
        Path | None,
        typer.Option(help="Config or run folder; its detector also compares the images by their embeddings."),
    ] = None,
    cosine: Annotated[float, typer.Option(help="Greatest cosine distance of embeddings that count.", min=0)] = 0.05,
    group: Annotated[
        str, typer.Option(help="Also look for groups in both: folder, field:NAME, pattern:REGEX or csv:FILE.")
    ] = "",
    strategies: Annotated[
        str,
        typer.Option(help="Of a config: strategies to check, such as entropy,margin, or all; by default its own."),
    ] = "",
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="How to print.")] = "text",
    quiet: Quiet = False,
) -> None:
    """Validate a data set: counts, and every problem with its file, id and reason. Exit 1 when unusable.

    With --against, list the images that other data sets share with it; the last line counts them. Of a config, check
    all splits and strategies as a run or study would before it begins, and show the sizes of images and boxes.
    """
    refuse_missing(annotations)
    if is_config(annotations):
        others = {"--images": images, "--from": from_, "--against": against, "--config": config, "--group": group}
        _refuse_given(annotations, {**others, "--duplicates": duplicates})
        check_experiment(annotations, strategies, as_json=format_ == "json")
        return
    if strategies:
        msg = f"--strategies: they are checked with a config, and {annotations} is none"
        raise ConfigError(msg)
    from alloop.cli.leaks import look_for_leaks  # noqa: PLC0415
    from alloop.data.groups import group_rule  # noqa: PLC0415
    from alloop.data.leak_check import LeakOptions  # noqa: PLC0415

    if (config or group) and not against:
        msg = f"{'--config' if config else '--group'}: compares two data sets; name the other one with --against"
        raise ConfigError(msg)
    lines, tree, refused = _validated(annotations, images, from_)
    if (against or duplicates) and not refused:
        rule = group_rule(group) if group else None
        options = LeakOptions(against, duplicates, distance, cosine, from_, groups=rule)
        report = look_for_leaks(annotations, images, options, config, quiet=quiet)
        lines, tree = [*lines, *report.lines], tree | report.tree
    print(json.dumps(tree, indent=2) if format_ == "json" else "\n".join(lines))
    if refused:
        raise AlloopError(f"{annotations}: {refused} findings make it unusable; they are listed above as refused")


def _refuse_given(config: Path, options: Mapping[str, object]) -> None:
    """Check that no option about annotations is given with a config."""
    if given := [name for name, value in options.items() if value]:
        msg = f"{given[0]}: it is about annotations, and {config} is a config, which names its own"
        raise ConfigError(msg)


def _validated(annotations: Path, images: Path | None, from_: str | None) -> tuple[list[str], dict[str, Any], int]:
    """Return what the validation of a data set says in lines and as an object, and how many findings refuse it."""
    from alloop.data import summary  # noqa: PLC0415
    from alloop.data.image_index import index_of_folder  # noqa: PLC0415
    from alloop.data.reading import read_annotations, with_file_names  # noqa: PLC0415
    from alloop.data.validation import data_set_of, find_problems  # noqa: PLC0415

    if images is not None:
        refuse_missing(images, "--images")
    index = None if images is None else index_of_folder(images)
    records = read_annotations(annotations, annotation_format(from_ or guess_format(annotations), "--from"), index)
    problems = find_problems(records, annotations.name)
    refused = sum(problem.verdict == "refused" for problem in problems)
    of_images: list[str] = []
    if index is not None and not refused:
        named = with_file_names(records, index, annotations.name)
        if named.images != records.images:  # names that were found by less than all of them
            problems = find_problems(named, annotations.name)
        records = named
    dataset = None if refused else data_set_of(records, annotations.name, problems)
    if images is not None and dataset is not None:
        of_images = summary.image_findings(dataset, images)
        refused = sum(finding.startswith("refused") for finding in of_images)
    findings = [*map(str, problems), *of_images]
    lines = [*summary.count_lines(records), *summary.problem_lines(findings)]
    tree = {
        "images": len(records.images),
        "boxes": len(records.annotations),
        "problems": findings,
        "usable": not refused,
    }
    if dataset is not None and not refused:
        lines += [
            summary.verdict_line(dataset),
            *summary.untrained_boxes(dataset, annotations.name),
            *summary.unused_classes(dataset, annotations.name),
        ]
    return lines, tree, refused


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File or folder with annotations.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What to write; must not exist yet.")],
    from_: Annotated[str, typer.Option("--from", help=f"Format of IN: {FORMATS_HELP}.")],
    to: Annotated[str, typer.Option("--to", help=f"Format of OUT: {FORMATS_HELP}.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images, where IN lacks sizes or folders.")] = None,
) -> None:
    """Convert annotations without losing a box, a crowd flag, an empty or an unlabeled image. Images are not copied."""
    from alloop.data.convert import convert_annotations  # noqa: PLC0415

    for line in convert_annotations(source, target, from_, to, images):
        print(line)


def import_(
    images: Annotated[Path, typer.Argument(help="Folder of the images, searched in depth.")],
    out: Annotated[Path, typer.Option(help="Folder for pool.json and labeled.txt.")],
    annotations: Annotated[Path | None, typer.Option(help="What is labeled already, in any format.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help=f"Its format: {FORMATS_HELP}. Guessed by default.")
    ] = None,
    classes: Annotated[str, typer.Option(help="Class names, comma-separated, where nothing else names them.")] = "",
) -> None:
    """Make a folder of images, partly labeled or not at all, into a pool that people can be asked about."""
    from alloop.data.importing import import_project  # noqa: PLC0415
    from alloop.data.summary import untrained_boxes, unused_classes  # noqa: PLC0415

    guessed = guess_format(annotations) if annotations and not from_ else "coco"
    names = [name.strip() for name in classes.split(",") if name.strip()]
    imported = import_project(images, out, annotations=annotations, format_=from_ or guessed, classes=names)
    labels = f"{imported.labeled_images} of them labeled with {imported.boxes} boxes ({imported.empty_images} empty)"
    print(f"{imported.pool}: {imported.images} images, {labels}, {len(imported.dataset.unlabeled)} not labeled")
    unused = unused_classes(imported.dataset, "what is labeled")
    for line in [*(f"noted: {note}" for note in imported.notes), *untrained_boxes(imported.dataset), *unused]:
        print(f"  {line}")
    if imported.labeled is not None:
        print(f"In the config: data.train.annotations: {imported.pool}, loop.seed_images: {imported.labeled}")
        print(f"               loop.seed_set: {imported.labeled_images}")


def export_digits(
    out: Annotated[Path, typer.Argument(help="Folder for the COCO files and PNG images.")],
    overrides: Annotated[list[str], typer.Option("--set", help="Parameter: --set pool=200. Repeatable.")] = [],  # noqa: B006
) -> None:
    """Write the embedded set, digit_scenes, as COCO JSON files and PNG images."""
    from alloop.data.digit_files import export_digit_scenes  # noqa: PLC0415

    for path in export_digit_scenes(out, overrides):
        print(path)
