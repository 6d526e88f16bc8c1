"""What a person decides about, one card for each image: its picture, what was found, and what to compare it with."""

from functools import partial

from review.data.findings import Copies, Findings, Oddity, Picture, Stranger, Suspect
from review.data.sheet import Part, Sheet
from stages.common.escape import html
from stages.common.names import shortened

# So many suspects get room before another card of each other part does, where there is no room for all.
_SUSPECTS_PER_OTHER = 6


def parts(findings: Findings) -> list[Part]:
    """The parts of the page that have cards."""
    numbers = {name: number for number, name in enumerate(findings.classes)}
    return [
        Part(
            "labels",
            "Suspected labels",
            "The class that each was given is unlikely to a classifier that has not seen it. The most suspect first; "
            "beside each, the nearest pictures of both classes whose labels look right.",
            [partial(_suspect, one, numbers[one.suggested]) for one in findings.suspects],
            _SUSPECTS_PER_OTHER,
        ),
        Part(
            "strangers",
            "Images that do not belong",
            "Far from all others: something else, damaged, or the only ones of their kind, of which to collect more.",
            [partial(_stranger, one) for one in findings.strangers],
        ),
        Part(
            "copies",
            "Copies and near copies",
            "Two pictures of the same. Over two splits they let a model answer from memory: leave one out, or name "
            "their group (group_pattern in params.yaml).",
            [partial(_copies, one) for one in findings.copies],
        ),
        Part(
            "oddities",
            "Unusual pictures",
            "Unusual in form, whatever they show.",
            [partial(_oddity, one) for one in findings.oddities],
        ),
    ]


def _suspect(one: Suspect, suggested_number: int, sheet: Sheet) -> str:
    given, suggested = one.picture.label, one.suggested
    like = [
        _beside(sheet, picture, label)
        for picture, label in ((one.like_given, given), (one.like_suggested, suggested))
        if picture
    ]
    said = _share("labelled", given, one.p_given, "share given")
    said += _share("looks like", suggested, one.p_suggested, "share")
    reason = f"looked wrong: p({shortened(given)}) {one.p_given:.2f}, p({shortened(suggested)}) {one.p_suggested:.2f}"
    name = f"labelled {given}, looks like {suggested}"
    return _card(sheet, one.picture, name, said, reason, beside="".join(like), suggested=suggested_number)


def _stranger(one: Stranger, sheet: Sheet) -> str:
    what = f"{one.ratio:.1f} times the usual distance"
    return _card(sheet, one.picture, what, _said(one.picture, what), f"far from all others: {what}")


def _copies(pair: Copies, sheet: Sheet) -> str:
    leak = pair.first.split != pair.second.split
    what = f"likeness {pair.likeness:.3f}"
    said = f'<strong class="bad">over two splits</strong>, {what}' if leak else what
    cards = [
        _card(sheet, one, f"{one.label}, {what}", _said(one, ""), f"{what} to {shortened(other.path)} of {other.split}")
        for one, other in ((pair.first, pair.second), (pair.second, pair.first))
    ]
    return f'<div class="pair"><p>{said}</p>{"".join(cards)}</div>'


def _oddity(one: Oddity, sheet: Sheet) -> str:
    what = f"{one.kind}: {one.what}"
    return _card(sheet, one.picture, what, _said(one.picture, what), what)


def _card(
    sheet: Sheet, picture: Picture, name: str, said: str, reason: str, *, beside: str = "", suggested: int | None = None
) -> str:
    """`name` and `reason` are text, `said` and `beside` are markup; `suggested` is the number of a class."""
    number = sheet.number(picture)
    suggestion = "" if suggested is None else f' data-suggested="{suggested}"'
    split = f'<strong class="warn">{picture.split}</strong>' if picture.split == "test" else picture.split
    return (
        f'<article data-image="{number}"{suggestion} data-reason="{html(reason)}" '
        f'aria-label="{html(name)}, {html(picture.path)}" tabindex="-1">'
        f'<div class="look"><div class="whole">{_img(sheet, number, picture.path)}</div>{beside}</div>'
        f'{said}<p class="path" title="{html(picture.path)}">{split} · <bdi>{html(picture.path)}</bdi></p></article>'
    )


def _beside(sheet: Sheet, picture: Picture, label: str) -> str:
    image = _img(sheet, sheet.number(picture), picture.path)
    return f'<figure>{image}<figcaption title="{html(label)}">{html(label)}</figcaption></figure>'


def _img(sheet: Sheet, number: int, alt: str) -> str:
    """Without its picture, which the page's script puts in when it is about to be seen."""
    pixels = ' class="pixels"' if sheet.is_pixels(number) else ""
    return f'<img{pixels} alt="{html(alt)}" data-picture="{number}">'


def _share(verb: str, label: str, probability: float, kind: str) -> str:
    return (
        f'<p class="{kind}" style="--share:{100 * probability:.0f}%"><span>{verb} <b>{html(label)}</b></span>'
        f" <span>{_per_cent(probability)}</span></p>"
    )


def _per_cent(probability: float) -> str:
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _said(picture: Picture, what: str) -> str:
    return f'<p class="said"><b>{html(picture.label)}</b>{f"<br>{html(what)}" if what else ""}</p>'
