"""The `alloop` command."""


def main() -> None:
    """Run the `alloop` command."""
    from alloop.cli.app import main as run  # noqa: PLC0415  typer is loaded only where a command runs

    run()
