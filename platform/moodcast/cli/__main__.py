"""`python -m moodcast.cli`: the same as the command `moodcast`, where it is not on the PATH."""

from moodcast.cli import main

main()
