"""The verbs of `python -m review`."""

import argparse

from review import summary
from stages.errors import run_main


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m review", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="verb")
    verb = verbs.add_parser("summary", help="the result in the workspace, and whether it equals the committed one")
    verb.set_defaults(run=summary.print_summary)
    parser.parse_args().run()


if __name__ == "__main__":
    run_main(main)
