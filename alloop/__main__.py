"""`python -m alloop` is the `alloop` command."""

from alloop.cli.app import main

main()
