"""`python -m microscope_atlas.cli` is the command line."""

from microscope_atlas.cli import main

main()
