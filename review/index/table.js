"use strict";
{
  // A browser needs long to lay out a table of a thousand rows.
  const MOST_SHOWN = 200;
  const table = document.querySelector("table");
  const headers = [...table.tHead.rows[0].cells];
  const names = headers.map((header) => header.textContent.toLowerCase());
  const number = (text) => (text.trim() === "" ? NaN : Number(text));
  const equal = (one, other) => one === other || number(one) === number(other);

  // As they came, best val accuracy first: what a column does not tell apart stays in this order.
  const rows = [...table.tBodies[0].rows].map((element) => {
    const cells = [...element.cells].map((cell) => {
      const text = cell.textContent;
      const key = cell.dataset.value ?? text;
      // Figures that are not comparable come after those that are, and what is not there at the end, in either order.
      const group = key === "—" || key === "" ? 2 : "apart" in cell.dataset ? 1 : 0;
      return { text: text.toLowerCase(), key, number: number(key), group };
    });
    return { element, cells, all: cells.map((cell) => cell.text).join(" ") };
  });
  let sorted = rows;

  // Params that all rows have the same value of.
  const same = new Map();
  for (const term of document.querySelectorAll(".params dt"))
    same.set(term.textContent.toLowerCase(), term.nextElementSibling.textContent.toLowerCase());

  function matches(row, term) {
    const place = term.indexOf("=");
    const [name, value] = [term.slice(0, place), term.slice(place + 1)];
    if (place > 0 && names.includes(name)) return equal(row.cells[names.indexOf(name)].text, value);
    if (place > 0 && same.has(name)) return equal(same.get(name), value);
    return row.all.includes(term);
  }

  const controls = document.querySelector(".controls");
  const text = controls.querySelector("input");
  const kind = controls.querySelector("select");
  const status = document.querySelector("[role=status]");
  const all = document.querySelector(".all");
  let most = MOST_SHOWN;

  function show() {
    const terms = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let fitting = 0;
    for (const { element, ...row } of sorted) {
      const fits = (!kind.value || element.dataset.kind === kind.value) && terms.every((term) => matches(row, term));
      fitting += fits;
      element.hidden = !fits || fitting > most;
    }
    const first = fitting > most ? `; the first ${most} are shown` : "";
    status.textContent = `${fitting.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows${first}`;
    all.hidden = !first;
  }

  const { compare } = new Intl.Collator(undefined, { numeric: true });

  function sort(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    sorted = [...rows].sort((one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      // A difference with what is no number is NaN, and so are texts compared.
      return a.group - b.group || sign * (a.number - b.number || compare(a.key, b.key));
    });
    table.tBodies[0].append(...sorted.map((row) => row.element));
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[column].setAttribute("aria-sort", direction);
    show();
  }

  const opposite = { ascending: "descending", descending: "ascending" };
  headers.forEach((header, column) => {
    const first = header.dataset.first;
    if (!first) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(column, opposite[header.getAttribute("aria-sort")] ?? first));
  });

  text.addEventListener("input", show);
  kind.addEventListener("change", show);
  all.addEventListener("click", () => {
    most = Infinity;
    document.querySelector(".box").focus();
    show();
  });
  controls.hidden = false;
  show();
}
