"""`python -m limbeck`: how a launcher starts the command line in each of its processes."""

from .cli.main import main

main()
