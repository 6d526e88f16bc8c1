"""What people have decided before, in corrections.csv: it is not asked again."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from review.data.findings import Findings, Picture


def undecided(findings: Findings, decided: Collection[str]) -> Findings:
    """The findings without images that somebody has decided about, by the SHA-256 of their pixels; of copies, without
    pairs of two such images. A remark says how many these are. What the figures say of the whole stays."""
    rest = replace(
        findings,
        suspects=[one for one in findings.suspects if one.picture.sha256 not in decided],
        strangers=[one for one in findings.strangers if one.picture.sha256 not in decided],
        copies=[one for one in findings.copies if not {one.first.sha256, one.second.sha256} <= set(decided)],
        oddities=[one for one in findings.oddities if one.picture.sha256 not in decided],
    )
    before, after = ({picture.sha256 for picture in subjects(some)} for some in (findings, rest))
    if not (count := len(before - after)):
        return rest
    images = "1 image that was found is" if count == 1 else f"{count:,} images that were found are"
    said = f"{images} not shown again: corrections.csv has a decision about {'it' if count == 1 else 'each'}."
    return replace(rest, remarks=[*rest.remarks, said])


def subjects(findings: Findings) -> Iterator[Picture]:
    """The images that somebody is to decide about; one may come several times."""
    for one in findings.suspects:
        yield one.picture
    for stranger in findings.strangers:
        yield stranger.picture
    for pair in findings.copies:
        yield from (pair.first, pair.second)
    for oddity in findings.oddities:
        yield oddity.picture
