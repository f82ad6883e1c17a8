"""`python -m deployments` is `everfit`."""

from deployments.cli import main

main(prog_name="everfit")
