"""`python -m limbeck`, which is how a launcher of several processes starts it."""

from .cli import main

main()
