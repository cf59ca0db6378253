"""What holds for every command. Parameters are read from the program, so that a new command is tested as well."""

import csv
import inspect
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from alloop.cli.app import COMMANDS, app

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_0_1_0" / "run"
TRAINING = {"demo", "run", "study", "prune-study", "ask"}  # they need a detector
OTHERS = [name for name in COMMANDS if name not in TRAINING]
SLOW_IMPORTS = {"torch", "torchvision", "matplotlib", "sklearn"}
AMOUNTS = {
    "select": {"images": 1},
    "init": {"device": "cpu"},
    "watch": {"once": True},
}  # what a command needs and typer cannot know
ENDS = {"review": 2}  # exit codes that are not 0: the run of the fixture waits for nobody
NEEDED = {
    "report": {"matplotlib", "sklearn"},
    "export-digits": {"sklearn"},
    "export": {"sklearn"},
    "watch": {"matplotlib"},
}
PROBE = """
import json, sys
from alloop.cli.app import app
try:
    app(args=sys.argv[1:])
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""
PARAMETERS = {name: command.params for name, command in get_command(app).commands.items()}


def is_option(parameter):
    return parameter.opts[0].startswith("-")


def kind(parameter):
    return parameter.type_descriptor.annotation


def is_path(parameter):
    return kind(parameter) in (Path, list[Path])


def choices(parameter):
    return get_args(kind(parameter)) if "Literal" in str(kind(parameter)) else ()


def written(parameter, value):
    if value is True:
        return [parameter.opts[0]]
    return [parameter.opts[0], str(value)] if is_option(parameter) else [str(value)]


def arguments(name, values, **wrong):
    """Return a call of a command with all that it requires, and with the parameters that `wrong` names."""
    wrong = AMOUNTS.get(name, {}) | wrong
    chosen = [p for p in PARAMETERS[name] if p.required or p.name in ("annotations", "keep") or p.name in wrong]
    chosen += [p for p in PARAMETERS[name] if (name, p.name) == ("init", "images")]
    return [
        name,
        *(text for p in chosen for text in written(p, wrong.get(p.name, values.get(p.name, values.get(kind(p)))))),
    ]


def call(*texts, **options):
    return CliRunner().invoke(app, [str(text) for text in texts], **options)


@pytest.fixture
def values(tmp_path, files):
    """Return a value for each parameter by its name, and by its kind for parameters of new commands."""
    run = shutil.copytree(FIXTURE, tmp_path / "run")
    pool = files / "instances_pool.json"
    named = {
        "folder": run,
        "folders": run,
        "annotations": pool,
        "source": pool,
        "pool": pool,
        "images": files / "images" / "pool",
    }
    named |= {"out": tmp_path / "out", "target": tmp_path / "target", "config": tmp_path / "nowhere.yaml"}
    named |= {"strategy": "random", "strategies": "random", "keep": 0.5, "from_": "coco", "to": "voc"}
    return named | {Path: run, list[Path]: run, str: "nothing", int: 1, float: 0.5}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_the_command_and_every_parameter_in_sentences(name):
    result = call(name, "--help")
    assert result.exit_code == 0
    description = inspect.getdoc(COMMANDS[name])
    text = " ".join(result.output.split())
    assert " ".join(description.split()) in text
    assert description.partition("\n")[0].endswith(".")
    for parameter in PARAMETERS[name]:
        assert parameter.help, parameter.name
        assert parameter.help[0].isupper(), parameter.help
        assert parameter.help.endswith("."), parameter.help
        assert " ".join(parameter.help.split()) in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_debug_and_comes_from_the_table(name):
    assert "--debug" in [opt for parameter in PARAMETERS[name] for opt in parameter.opts]
    registered = {info.name: info.callback for info in app.registered_commands}
    assert registered.keys() == COMMANDS.keys()
    assert registered[name].__wrapped__ is COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_usage_exits_2_and_says_what_to_do(name, values):
    required = [[name]] if any(parameter.required for parameter in PARAMETERS[name]) else []
    mistakes = [(texts, "Missing") for texts in required]
    mistakes.append(([*arguments(name, values), "--nothing-of-the-kind"], "No such option"))
    for parameter in PARAMETERS[name]:
        if choices(parameter):
            mistakes.append((arguments(name, values, **{parameter.name: "nothing"}), choices(parameter)[-1]))
        elif kind(parameter) in (int, float):
            mistakes.append((arguments(name, values, **{parameter.name: "many"}), "valid"))
    for texts, words in mistakes:
        result = call(*texts)
        assert result.exit_code == 2, texts
        assert result.stdout == ""
        assert words in result.stderr
        assert f"{name} --help" in result.stderr
        assert "Traceback" not in result.stderr


WITH_FILES = [name for name in COMMANDS if any(p.required and is_path(p) for p in PARAMETERS[name])]


@pytest.mark.parametrize("name", WITH_FILES)
def test_an_error_is_one_paragraph_and_debug_raises_it(name, values, tmp_path):
    (tmp_path / "file").write_text("no folder")
    blocked = {p.name: tmp_path / "file" / "x" for p in PARAMETERS[name] if p.required and is_path(p)}
    result = call(*arguments(name, values, **blocked))
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert result.stderr.startswith("alloop: ")
    assert len(result.stderr.splitlines()) == 1
    assert str(tmp_path / "file" / "x") in result.stderr
    assert "unexpected" not in result.stderr
    debugged = call(*arguments(name, values, **blocked), "--debug")
    assert not isinstance(debugged.exception, SystemExit)
    assert debugged.stderr == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_detector_imports_no_torch_and_prints_in_any_encoding(name, values):
    texts = [name, "--help"] if name in TRAINING else arguments(name, values)
    probe = subprocess.run(
        [sys.executable, "-c", PROBE, *texts],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert probe.returncode == ENDS.get(name, 0), probe.stderr
    assert probe.stdout.isascii()
    modules = set(json.loads(probe.stderr.splitlines()[-1]))
    assert not modules & SLOW_IMPORTS - NEEDED.get(name, set())


def test_help_imports_only_typer_and_status_nothing_that_is_slow(values):
    for texts, forbidden in (
        (["--help"], {"numpy", "yaml", "pydantic", "rich", "jaxtyping", "tqdm"}),
        (["status", values["folder"]], {"scipy", "cv2", "PIL", "yaml", "tqdm", "matplotlib"}),
    ):
        command = [sys.executable, "-c", PROBE, *map(str, texts)]
        probe = subprocess.run(command, capture_output=True, text=True, check=True)
        assert not forbidden & set(json.loads(probe.stderr.splitlines()[-1]))


@pytest.mark.parametrize("name", [name for name in COMMANDS if "Progress(" in inspect.getsource(COMMANDS[name])])
def test_a_command_that_shows_progress_can_be_quiet(name, values):
    assert "--quiet" in [opt for parameter in PARAMETERS[name] for opt in parameter.opts]
    if name not in TRAINING:
        result = call(*arguments(name, values), "--quiet")
        assert result.exit_code == 0
        assert result.stderr == ""


@pytest.mark.parametrize(
    "name", [name for name in OTHERS if any({"json", "csv"} <= {*choices(p)} for p in PARAMETERS[name])]
)
def test_json_and_csv_stand_alone_on_standard_output(name, values):
    printed = {form: call(*arguments(name, values, output=form)) for form in ("json", "csv")}
    assert all(result.exit_code == 0 and result.stderr == "" for result in printed.values())
    assert json.loads(printed["json"].stdout)
    header, *rows = csv.reader(io.StringIO(printed["csv"].stdout))
    assert rows
    assert {len(row) for row in rows} == {len(header)}


def test_the_version_is_printed():
    import alloop

    assert call("--version").stdout == f"alloop {alloop.__version__}\n"
