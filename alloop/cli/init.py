"""The command `init`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from alloop.cli.check import check_experiment
from alloop.data.formats.table import FORMATS, guess_format

if TYPE_CHECKING:
    from alloop.starting.settings import Device

_NAMES = f"{', '.join(FORMATS)} or your own 'package.module:FORMAT'"


def init(
    annotations: Annotated[Path, typer.Argument(help="File or folder with annotations.")],
    out: Annotated[Path, typer.Option(help="Folder for config.yaml and the splits; must not exist yet, or be empty.")],
    images: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    test: Annotated[
        str | None,
        typer.Option(
            help="Annotations of a test split that is there already: TEST or TEST=IMAGES. Without it the annotations "
            "are divided into train (70 %), reference (10 %) and test (20 %)."
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Images that belong together: folder, field:NAME, pattern:REGEX or csv:FILE.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help=f"Format: {_NAMES}. Guessed by default.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="What is trained on; auto takes CUDA where there is one."),
    ] = "auto",
    random_seed: Annotated[int, typer.Option(help="Seed of the division into splits.")] = 0,
) -> None:
    """Write the config of a first experiment, fitted to the images, their boxes and this machine, with reasons.

    Example: alloop init all.json --images photos --out project
    """
    from alloop.data.groups import group_rule  # noqa: PLC0415
    from alloop.data.leak_check import other_of  # noqa: PLC0415
    from alloop.files import refuse_missing  # noqa: PLC0415
    from alloop.starting.project import CONFIG, Source, start_project  # noqa: PLC0415
    from alloop.tables import Table, show  # noqa: PLC0415

    refuse_missing(annotations)
    source = Source(
        annotations=annotations,
        images=images,
        format=from_ or guess_format(annotations),
        test=other_of(test) if test else None,
        groups=group_rule(group) if group else None,
        random_seed=random_seed,
    )
    settings = start_project(source, out, _device(device))
    rows = [[setting.key, str(setting.value), setting.reason] for setting in settings]
    show(Table(["key", "value", "reason"], rows, left=3), "")
    config = out / CONFIG
    check_experiment(config, "", as_json=False)
    print(f"\nThe config is {config}. Change in it what you know better. What comes next:")
    if any(setting.key == "oracle.name" for setting in settings):
        print(f"  alloop run {config} --out {out / 'run'}     # the first images to annotate")
        return
    print(f"  alloop study {config} --strategies entropy --seeds 0,1,2 --out {out / 'study'}")


def _device(name: str) -> "Device":
    from alloop.starting.settings import Device  # noqa: PLC0415

    if name == "cpu":
        return Device("cpu")
    import torch  # noqa: PLC0415

    from alloop.loop.experiment import choose_device  # noqa: PLC0415

    if choose_device(name).type != "cuda":
        return Device("cpu")
    return Device("cuda", torch.cuda.get_device_properties("cuda").total_memory / 2**30)
