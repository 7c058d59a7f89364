"""`python -m tandem_operator` is `tandem`."""

from tandem_operator.cli import main

main()
