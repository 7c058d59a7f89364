"""`python -m tandem_router`."""

from tandem_router.command import command

if __name__ == "__main__":
    command()
