"""`python -m limbeck`, which is how a launcher of several processes starts it."""

from .cli.app import main

main()
