"""What all pages share: nothing from elsewhere runs or loads, and texts can be read in both schemes."""

import base64
import hashlib
import re

import pytest

from review.page import STYLE, banner, card, html_page
from tests.markup import Page


def variables(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block))


def luminance(colour: str) -> float:
    """Relative luminance, by WCAG 2.2."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    """Of every text on everything that it stands on, 4.5 or more."""
    light, dark = STYLE.split("prefers-color-scheme: dark", 1)
    colours = variables(light) if scheme == "light" else variables(light) | variables(dark.split("} }", 1)[0])
    pairs = [(text, ground) for text in ("text", "soft", "first", "good", "bad", "warn") for ground in ("page", "card")]
    pairs += [(kind, f"{kind}-tint") for kind in ("good", "bad", "warn")]
    pairs += [("text", f"{kind}-tint") for kind in ("good", "bad", "warn")]
    for text, ground in pairs:
        one, other = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (one + 0.05) / (other + 0.05) >= 4.5, (text, ground)


def test_only_the_pages_own_script_runs() -> None:
    page = html_page("a <b>", [card("c <d>", "<p>e</p>", size="wide"), banner("bad", "f <g>")], script="go()")
    digest = base64.b64encode(hashlib.sha256(b"go()").digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'; " in page
    assert "script-src" not in html_page("a", [])
    parsed = Page(page)
    assert parsed.open == []
    assert not {"b", "d", "g"} & set(parsed.tags)
    assert '<section class="card wide"><h2>c &lt;d&gt;</h2><p>e</p></section>' in page
