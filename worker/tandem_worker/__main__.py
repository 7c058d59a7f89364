"""`python -m tandem_worker`: the same as `tandem worker`."""

from tandem_worker.command import command

if __name__ == "__main__":
    command(prog_name="tandem worker")
