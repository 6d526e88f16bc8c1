"""The page of `make look` with 2,000 suspects: seconds, bytes, how many have room, and how smoothly Chromium scrolls.

python -m benchmarks.data_page [FOLDER of JPEGs; default: random textures]
"""

import hashlib
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from review.data import page as page_module
from review.data.findings import Findings, LearningCurve, Picture, Suspect
from review.data.page import page
from review.data.sheet import Draw
from review.thumbnails import small_uri
from tests import chromium

_SUSPECTS = 2_000
_SIDE = 224
# Pixels a turn of a mouse wheel scrolls, and turns.
_WHEELS = {"slowly": (120, 150), "fast": (600, 120)}
_FRAMES = """
var frames = [], last;
function frame(now) { if (last) frames.push(now - last); last = now; requestAnimationFrame(frame); }
requestAnimationFrame(frame);
"""


def main() -> None:
    photos = [_photo(path) for path in sorted(Path(sys.argv[1]).rglob("*.jpg"))] if len(sys.argv) > 1 else _textures()
    findings = _findings()
    for limit in (page_module.MOST_BYTES, 100 * page_module.MOST_BYTES):
        page_module.MOST_BYTES = limit
        started = time.perf_counter()
        made = page(findings, _drawer(photos), [], manifest="0" * 64, everything="suspects.csv")
        shown, total = made.shown["Suspected labels"]
        print(
            f"at most {limit:,} bytes: {len(made.text.encode()):,} bytes, {shown:,} of {total:,} suspects, "
            f"{time.perf_counter() - started:.1f} s"
        )
        if chromium.PROGRAM is None:
            print("no Chromium on this machine: nothing is scrolled")
            continue
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "data.html"
            file.write_text(made.text, encoding="utf-8")
            with chromium.browser(Path(folder) / "profile") as browser:
                _scroll(browser, file)


def _scroll(browser: chromium.Browser, file: Path) -> None:
    browser.open(file)
    browser.evaluate(_FRAMES)
    time.sleep(2)
    print(f"  at rest          {_times(browser)}")
    for name, (pixels, turns) in _WHEELS.items():
        for _ in range(turns):
            browser.send("Input.dispatchMouseEvent", type="mouseWheel", x=600, y=500, deltaX=0, deltaY=pixels)
        print(f"  scrolling {name:7}{_times(browser)}")
    browser.evaluate("scrollTo(0, 0)")
    browser.evaluate("frames = []")
    for _ in range(300):
        browser.press("j")
    print(f"  300 times j      {_times(browser)}")


def _times(browser: chromium.Browser) -> str:
    times = np.array(browser.evaluate("frames"))
    browser.evaluate("frames = []")
    median, most = np.quantile(times, [0.5, 0.99])
    return (
        f"{len(times):4} frames, {median:.1f} ms in the median, 99 % within {most:.1f} ms, longest {times.max():.0f} ms"
    )


def _findings() -> Findings:
    pictures = [_picture(number) for number in range(3 * _SUSPECTS)]
    suspects = [
        Suspect(pictures[number], "dog", 0.1, 0.8, pictures[number + _SUSPECTS], pictures[number + 2 * _SUSPECTS])
        for number in range(_SUSPECTS)
    ]
    return Findings({}, [], ["cat", "dog"], suspects, [], [], [], [], "", LearningCurve([], None, "none"), [])


def _picture(number: int) -> Picture:
    label = "dog" if number >= 2 * _SUSPECTS else "cat"
    return Picture(hashlib.sha256(b"%d" % number).hexdigest(), f"{label}/IMG_{number:05}.jpg", label, "train")


def _drawer(photos: list[np.ndarray]) -> Draw:
    def draw(picture: Picture, side: int) -> str:
        number = int(picture.path[-9:-4])
        # Not the same twice, as no two photos are.
        return small_uri(np.roll(photos[number % len(photos)], number, axis=1), side)

    return draw


def _photo(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def _textures() -> list[np.ndarray]:
    """Random pictures that take about as many bytes as photos: noise of several sizes, one on another."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        pixels = np.full((_SIDE, _SIDE, 3), 128.0)
        for cells, height in ((4, 50), (16, 30), (64, 20), (_SIDE, 6)):
            noise = generator.normal(128, height, (cells, cells, 3)).clip(0, 255).astype(np.uint8)
            pixels += np.asarray(Image.fromarray(noise).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)) - 128.0
        found.append(pixels.clip(0, 255).astype(np.uint8))
    return found


if __name__ == "__main__":
    main()
