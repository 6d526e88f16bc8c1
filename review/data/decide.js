"use strict";
{
  const byId = (id) => document.getElementById(id);
  const { key, classes, images, rows } = JSON.parse(byId("data").textContent);
  const pictures = JSON.parse(byId("pictures").textContent);
  const [KEEP, RELABEL, OUT] = ["keep", "relabel", "leave out"];
  // So many classes fit a list that is read at a glance.
  const MOST_LISTED = 8;

  const cards = [...document.querySelectorAll("[data-image]")];
  const image = (card) => {
    const [sha256, path, label] = images[card.dataset.image];
    return { sha256, path, label: classes[label] };
  };
  const cardsOf = new Map();
  for (const card of cards) {
    const { sha256 } = image(card);
    cardsOf.set(sha256, [...(cardsOf.get(sha256) ?? []), card]);
  }

  // What was decided here, by the SHA-256 of an image: { path, decision, label, reason }.
  let decisions = new Map();
  const past = [];
  let unsaved = 0;
  let remembers = true;

  const number = (count) => count.toLocaleString("en");
  const say = (text) => { byId("said").textContent = text; };

  // The browser's memory. Pages of other projects may share it, and anybody may write there: what is not a decision of
  // this page's form is passed over.
  function isDecision(entry) {
    const [sha256, it] = Array.isArray(entry) ? entry : [];
    const texts = [sha256, it?.path, it?.label, it?.reason];
    return (
      texts.every((text) => typeof text === "string") &&
      (it.decision === RELABEL ? classes.includes(it.label) : [KEEP, OUT].includes(it.decision) && it.label === "")
    );
  }

  // What the project has taken over, or decided otherwise, since it was remembered here.
  const settled = new Set(rows.map((row) => row[1]).filter((sha256) => !cardsOf.has(sha256)));

  function recall() {
    try {
      const entries = JSON.parse(localStorage.getItem(key) ?? "[]");
      decisions = new Map(entries.filter((entry) => isDecision(entry) && !settled.has(entry[0])));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError)) forget(error);
    }
  }

  function remember() {
    try {
      localStorage.setItem(key, JSON.stringify([...decisions]));
    } catch (error) {
      forget(error);
    }
  }

  function forget(error) {
    remembers = false;
    byId("forgetful").textContent =
      `This browser keeps nothing of this page (${error.name}): what you decide is lost when it is closed. ` +
      "Save corrections.csv before.";
    byId("forgetful").hidden = false;
  }

  const words = ({ decision, label }, own) =>
    decision === KEEP ? `Keep: ${own}` : decision === OUT ? "Leave out" : `Now: ${label}`;

  function paint(card) {
    const { sha256, label } = image(card);
    const decision = decisions.get(sha256);
    card.dataset.decision = decision?.decision ?? "";
    card.setAttribute("aria-description", decision ? words(decision, label) : "undecided");
    card.hidden = byId("undecided").checked && decision !== undefined;
    const said = card.querySelector(".decided");
    if (!said) return;
    said.hidden = !decision;
    card.querySelector(".act").hidden = Boolean(decision);
    said.querySelector("b").textContent = decision ? words(decision, label) : "";
    said.title = decision?.reason ?? "";
  }

  function count() {
    const done = [...cardsOf.keys()].filter((sha256) => decisions.has(sha256)).length;
    byId("count").textContent = `${number(done)} of ${number(cardsOf.size)} decided`;
    byId("done").max = cardsOf.size;
    byId("done").value = done;
    return done;
  }

  function set(sha256, decision) {
    if (decision) decisions.set(sha256, decision);
    else decisions.delete(sha256);
    unsaved += 1;
    remember();
    cardsOf.get(sha256)?.forEach(paint);
    return count();
  }

  // Pictures and buttons of cards, when they are about to be seen.
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        target.querySelectorAll("[data-image]").forEach(furnish);
      }
    },
    { rootMargin: "1000px" },
  );

  function furnish(card) {
    for (const img of card.querySelectorAll("img")) img.src = pictures[img.dataset.picture];
    card.append(byId("actions").content.cloneNode(true));
    const { label } = image(card);
    const button = (act) => card.querySelector(`[data-act=${act}]`);
    button("keep").title = `Keep ${label}`;
    const suggested = classes[card.dataset.suggested];
    if (suggested === undefined) button("suggested").remove();
    else {
      button("suggested").lastChild.textContent = suggested;
      button("suggested").title = `It is ${suggested}`;
    }
    paint(card);
  }

  // Walking.
  let current = cards[0];
  const visible = () => cards.filter((card) => !card.hidden);

  function isInView(card) {
    const { top, bottom } = card.querySelector(".whole").getBoundingClientRect();
    const middle = (top + bottom) / 2;
    const bar = document.querySelector(".bar").getBoundingClientRect();
    return !card.hidden && middle > bar.bottom && middle < innerHeight;
  }

  function point(card) {
    current?.classList.remove("current");
    current?.setAttribute("tabindex", "-1");
    current = card;
    current.classList.add("current");
    current.setAttribute("tabindex", "0");
  }

  function go(card) {
    if (!card) return;
    point(card);
    card.focus({ preventScroll: true });
    card.scrollIntoView({ block: "nearest" });
  }

  // The nearest card above or below that shares a column with the current one.
  function vertical(step) {
    const here = current.getBoundingClientRect();
    const shown = visible();
    for (let place = shown.indexOf(current) + step; shown[place]; place += step) {
      const there = shown[place].getBoundingClientRect();
      const apart = step > 0 ? there.top >= here.bottom : there.bottom <= here.top;
      if (apart && there.left < here.right && there.right > here.left) return shown[place];
    }
    return shown[shown.indexOf(current) + step];
  }

  function following() {
    const place = cards.indexOf(current);
    const undecided = (card) => !decisions.has(image(card).sha256);
    return cards.slice(place + 1).find(undecided) ?? cards.slice(0, place).find(undecided);
  }

  // Deciding.
  function decide(card, decision, label = "", walk = false) {
    const { sha256, path, label: own } = image(card);
    const before = decisions.get(sha256);
    const same = decision === RELABEL && label === own;
    const now = { path, decision: same ? KEEP : decision, label: same ? "" : label, reason: card.dataset.reason };
    past.push([sha256, card, before]);
    const done = set(sha256, now);
    const left = cardsOf.size - done;
    const rest = left ? `${number(left)} left.` : "All are decided: save corrections.csv.";
    say(`${words(now, own)}. ${rest}`);
    if (walk || card.hidden) go(following() ?? card);
    // The button that was pressed is hidden now.
    else card.focus({ preventScroll: true });
  }

  function clear(card) {
    const { sha256 } = image(card);
    past.push([sha256, card, decisions.get(sha256)]);
    set(sha256, undefined);
    say("Undone: to be decided again.");
    go(card);
  }

  function undo() {
    const last = past.pop();
    if (!last) return say("Nothing to undo: press u on the card itself.");
    const [sha256, card, before] = last;
    set(sha256, before);
    say(before ? `Undone. ${words(before, image(card).label)}.` : "Undone: to be decided again.");
    go(card);
  }

  const lastDecided = () => (decisions.has(image(current).sha256) ? current : past.at(-1)?.[1]);

  // Another class, out of any number: a combobox, as WAI-ARIA's authoring practices describe it.
  const recent = [];
  let chosenFor;
  let active = 0;

  function matching(text) {
    const typed = text.trim().toLowerCase();
    const begins = (name) => name.toLowerCase().startsWith(typed);
    const fits = [...recent, ...classes.filter((name) => !recent.includes(name))].filter((name) =>
      name.toLowerCase().includes(typed),
    );
    return typed ? [...fits.filter(begins), ...fits.filter((name) => !begins(name))] : fits;
  }

  function list(place = 0) {
    const fits = matching(byId("class").value);
    active = Math.max(0, Math.min(place, fits.length - 1, MOST_LISTED - 1));
    byId("classes").replaceChildren(
      ...fits.slice(0, MOST_LISTED).map((name, place) => {
        const option = document.createElement("li");
        option.id = `class-${place}`;
        option.role = "option";
        option.ariaSelected = String(place === active);
        option.textContent = name;
        return option;
      }),
    );
    const more = fits.length - MOST_LISTED;
    byId("more").textContent = !fits.length ? "No such class." : more > 0 ? `and ${number(more)} more` : "";
    if (fits.length) byId("class").setAttribute("aria-activedescendant", `class-${active}`);
    else byId("class").removeAttribute("aria-activedescendant");
  }

  function choose(card) {
    chosenFor = card;
    byId("choose").querySelector("img").src = pictures[card.dataset.image];
    byId("class").value = "";
    list();
    byId("choose").showModal();
  }

  function chosen() {
    const option = byId("classes").children[active];
    if (!option) return;
    const name = option.textContent;
    byId("choose").close();
    if (recent.includes(name)) recent.splice(recent.indexOf(name), 1);
    recent.unshift(name);
    decide(chosenFor, RELABEL, name, true);
  }

  byId("class").addEventListener("input", () => list());
  byId("class").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) list(active + step);
    else if (event.key === "Enter") chosen();
    else return;
    event.preventDefault();
  });
  byId("classes").addEventListener("click", (event) => {
    active = [...byId("classes").children].indexOf(event.target.closest("li"));
    chosen();
  });

  let reasonedFor;
  function explain(card) {
    if (!card || !decisions.has(image(card).sha256)) return say("Decide first, then give a reason.");
    reasonedFor = card;
    byId("reason").value = decisions.get(image(card).sha256).reason;
    byId("because").showModal();
    byId("reason").select();
  }
  byId("because").addEventListener("submit", () => {
    const { sha256 } = image(reasonedFor);
    // What stages.common.corrections refuses: control characters, and how a formula begins to a spreadsheet.
    const typed = byId("reason").value.replace(/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, " ").trim();
    const reason = typed.replace(/^[=+\-@＝＋－＠\s]+/, "");
    set(sha256, { ...decisions.get(sha256), reason: reason || reasonedFor.dataset.reason });
    say(`Reason: ${decisions.get(sha256).reason}`);
  });

  // corrections.csv, as stages.common.tables writes it.
  const quoted = (field) => (/[",\n\r]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field);

  function table() {
    const merged = new Map(rows.map((row) => [row[1], row]));
    for (const [sha256, { path, decision, label, reason }] of decisions)
      merged.set(sha256, [path, sha256, decision, label, reason]);
    const sorted = [...merged.values()].sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));
    return [["path", "sha256", "decision", "class", "reason"], ...sorted];
  }

  function save() {
    const lines = table();
    const text = lines.map((row) => `${row.map(quoted).join(",")}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    unsaved = 0;
    const before = rows.length ? ` and the project's ${number(rows.length)}` : "";
    say(
      `Saved corrections.csv: ${number(decisions.size)} decisions from here${before}. ` +
        "Next, in the project: make correct FROM=~/Downloads/corrections.csv",
    );
  }

  const acts = {
    keep: (card, walk) => decide(card, KEEP, "", walk),
    suggested: (card, walk) => {
      const suggested = classes[card.dataset.suggested];
      if (suggested === undefined) say("There is no suggestion here: 3 chooses a class.");
      else decide(card, RELABEL, suggested, walk);
    },
    other: choose,
    out: (card, walk) => decide(card, OUT, "", walk),
    clear,
    reason: explain,
    undo,
    save,
    help: () => byId("help").showModal(),
    close: () => document.querySelector("dialog[open]").close(),
  };

  document.addEventListener("click", (event) => {
    const card = event.target.closest("[data-image]");
    if (card) point(card);
    const act = event.target.closest("[data-act]")?.dataset.act;
    if (act) acts[act](card);
  });

  const shownOnly = (act) => () => {
    if (isInView(current)) return act();
    // Nothing is decided that is not seen.
    go(visible().find(isInView) ?? visible().find((card) => card.getBoundingClientRect().bottom > 0) ?? current);
    say("Here: press the key again.");
  };
  const walk = (step) => () => {
    if (!current.contains(document.activeElement)) return isInView(current) ? go(current) : shownOnly(() => {})();
    const shown = visible();
    go(shown[shown.indexOf(current) + step]);
  };
  const keys = {
    j: walk(1),
    k: walk(-1),
    ArrowRight: walk(1),
    ArrowLeft: walk(-1),
    ArrowDown: () => go(vertical(1)),
    ArrowUp: () => go(vertical(-1)),
    1: shownOnly(() => acts.keep(current, true)),
    2: shownOnly(() => acts.suggested(current, true)),
    3: shownOnly(() => choose(current)),
    4: shownOnly(() => acts.out(current, true)),
    u: () => (decisions.has(image(current).sha256) ? clear(current) : undo()),
    r: () => explain(lastDecided()),
    "?": acts.help,
  };
  Object.assign(keys, { Enter: keys[2], c: keys[3], x: keys[4], Backspace: keys.u });

  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const others = event.ctrlKey || event.metaKey || event.altKey;
    const native = others || target.closest("dialog, input:not([type=checkbox])");
    // The keys of digits, which a French keyboard types with Shift alone.
    const digit = event.shiftKey ? undefined : /^Digit([1-4])$/.exec(event.code)?.[1];
    const pressed = digit ?? (event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (native || !keys[pressed] || (pressed === "Enter" && target.closest("button, a, summary"))) return;
    if (!current || (!byId("keys").checked && pressed !== "?")) return;
    event.preventDefault();
    keys[pressed]();
  });

  document.addEventListener("focusin", (event) => {
    const card = event.target.closest("[data-image]");
    if (card && card !== current) point(card);
  });
  byId("undecided").addEventListener("change", () => {
    cards.forEach(paint);
    if (current?.hidden) point(following() ?? current);
  });
  addEventListener("storage", (event) => {
    if (event.key !== key && event.key !== null) return;
    recall();
    cards.forEach(paint);
    count();
  });
  addEventListener("beforeunload", (event) => {
    if (!remembers && unsaved) event.preventDefault();
  });

  recall();
  remember();
  cards.forEach(paint);
  count();
  document.querySelectorAll(".group").forEach((group) => near.observe(group));
  if (current) point(cards.find((card) => !decisions.has(image(card).sha256)) ?? current);
  document.querySelector(".bar").hidden = !cards.length;
  if (matchMedia("(hover: hover)").matches)
    say("j and k walk · 1 keep · 2 the suggested class · 3 another · 4 leave out · ? all keys");
}
