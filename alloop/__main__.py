"""`python -m alloop` is the `alloop` command."""

from alloop.cli import main

main()
