"""Uses a report and a page to explore a cube as a reader would: page_judge.py REPORT EXPLORE. Prints what it found as JSON.

Looks for errors on the console, pages that are wider than a telephone, slow answers, and verdicts that are not kept.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from browser import Browser

CENTRE = """(() => {{
  const box = document.querySelector("{0}").getBoundingClientRect();
  return [box.left + box.width * {1}, box.top + box.height * {2}];
}})()"""
SAID = 'document.querySelector("#said").textContent'
WINDOW = '["#from", "#to"].map(q => Number(document.querySelector(q).value))'


def wait(browser):
    browser.ask(
        "new Promise(done => { const look = () => document.body.dataset.ready ? done(1) : setTimeout(look, 5); look(); })"
    )


def place(browser, what, across=0.5, down=0.5):
    browser.ask(f'document.querySelector("{what}").scrollIntoView({{block: "center"}})')
    return browser.ask(CENTRE.format(what, across, down))


def explore(browser, page):
    import time

    found = {}
    for width in [1300, 400]:
        browser.size(width)
        begun = time.monotonic()
        browser.open(page)
        wait(browser)
        found[f"opens_s_{width}"] = time.monotonic() - begun
        found[f"width_{width}"] = browser.ask("document.documentElement.scrollWidth")
    browser.size(1300)
    browser.open(page)
    wait(browser)
    found["first"] = browser.ask(SAID)
    # The longest task of a click, by the page's own clock.
    browser.ask(
        """(() => { window.took = []; const map = document.querySelector("#map");
        map.addEventListener("pointerdown", () => { window.begun = performance.now(); }, true);
        map.addEventListener("pointerdown", () => { window.took.push(performance.now() - window.begun); }); })()"""
    )
    for across in [0.2, 0.5, 0.8]:
        browser.click(*place(browser, "#map", across, 0.3))
    found["click_ms"] = max(browser.ask("window.took"))
    found["clicked"] = browser.ask(SAID)
    browser.ask('document.querySelector("#map").focus()')
    browser.key("ArrowDown")
    found["key"] = browser.ask(SAID)
    before = browser.ask(WINDOW)
    browser.drag(place(browser, "#spectrum", 0.4, 0.3), place(browser, "#spectrum", 0.6, 0.3))
    browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found["window"] = [before, browser.ask(WINDOW)]
    found["scale"] = browser.ask('document.querySelector("#scale").textContent')
    browser.ask('document.querySelector("#compare").click()')
    browser.touch(*place(browser, "#map", 0.7, 0.8))
    found["compared"] = browser.ask(SAID)
    for quantity in ["net", "residual", "counts", "score"]:
        browser.ask(f'document.querySelector("input[value={quantity}]").click()')
        found[f"scale_{quantity}"] = browser.ask('document.querySelector("#scale").textContent')
    return found


def report(browser, page):
    found = {}
    for width in [400, 1300]:
        browser.size(width)
        browser.open(page)
        found[f"width_{width}"] = browser.ask("document.documentElement.scrollWidth")
    saved = 'document.querySelector("#save-verdicts").textContent'
    found["before"] = browser.ask(saved)
    browser.ask(
        """(() => { const place = document.querySelector("[data-verdict]"), select = place.querySelector("select");
        select.value = "artefact detector"; select.dispatchEvent(new Event("change", {bubbles: true}));
        const note = place.querySelector("input"); note.value = "a \\"dead\\" channel: 7";
        note.dispatchEvent(new Event("change", {bubbles: true})); })()"""
    )
    found["after"] = browser.ask(saved)
    # Kept for the next time.
    browser.open(page)
    found["again"] = browser.ask(saved)
    # The file as it would be saved.
    browser.ask(
        """(() => { const make = URL.createObjectURL;
        URL.createObjectURL = blob => { window.saved = blob.text(); return make.call(URL, blob); };
        HTMLAnchorElement.prototype.click = () => {};
        document.querySelector("#save-verdicts").click(); })()"""
    )
    found["file"] = browser.ask("window.saved")
    return found


with Browser() as browser:
    found = {"explore": explore(browser, sys.argv[2]), "report": report(browser, sys.argv[1]), "console": browser.console}
print(json.dumps(found))
