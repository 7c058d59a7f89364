"""`python -m tandem_sim.engines`: the command without the rest of `tandem`."""

from tandem_sim.engines.command import command

command()
