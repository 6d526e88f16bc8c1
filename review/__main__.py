"""The verbs of `python -m review`."""

import argparse

from review import diff, experiments, git, reproduce, seeds, summary, tag
from review.data import options as data
from review.drift import command as drift
from review.index import command as index
from review.report import command as report
from stages.common.errors import run_main


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m review", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="verb")
    verb = verbs.add_parser("summary", help="the result in the workspace, and whether it equals the committed one")
    verb.set_defaults(run=summary.print_summary)
    verb = verbs.add_parser("experiments", help="the experiments of this clone in a table: changed params, val figures")
    verb.set_defaults(run=experiments.print_experiments)
    report.add_arguments(verbs.add_parser("report", help="one run on a page for a browser: reports/report.html"))
    index.add_arguments(
        verbs.add_parser("index", help="tags and experiments on a page for a browser: reports/index.html")
    )
    data.add_arguments(
        verbs.add_parser("data", help="what to mend in the data, on a page for a browser: reports/data.html")
    )
    diff.add_arguments(
        verbs.add_parser("diff", help="two revisions side by side, and whether the gain is more than noise")
    )
    reproduce.add_arguments(verbs.add_parser("reproduce", help="run a revision again, and judge what it claims"))
    tag.add_arguments(verbs.add_parser("tag", help="an annotated Git tag of HEAD that carries its result"))
    drift.add_arguments(verbs.add_parser("drift", help="the log of a service against what its model was measured on"))
    verb = verbs.add_parser("seeds", help="run the workspace's experiment under several seeds")
    verb.add_argument("count", type=int, metavar="N", help="seeds 0 to N - 1, the workspace's own among them")
    verb.add_argument("--jobs", type=int, default=1, help="how many at a time (default: 1)")
    verb.set_defaults(run=seeds.main)
    arguments = parser.parse_args()
    git.require_top_level()
    arguments.run(arguments)


if __name__ == "__main__":
    run_main(main)
