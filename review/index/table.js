"use strict";
{
  const table = document.querySelector("table");
  const headers = [...table.tHead.rows[0].cells];
  const names = headers.map((header) => header.textContent.toLowerCase());
  const number = (text) => (text.trim() === "" ? NaN : Number(text));
  // As they came, best val accuracy first: what a column does not tell apart stays in this order.
  const rows = [...table.tBodies[0].rows].map((element) => {
    const cells = [...element.cells].map((cell) => {
      const text = cell.textContent;
      return { text: text.toLowerCase(), key: cell.dataset.value ?? text, apart: "apart" in cell.dataset };
    });
    return { element, cells, all: cells.map((cell) => cell.text).join(" ") };
  });
  // Params that all rows have the same value of.
  const same = new Map();
  for (const term of document.querySelectorAll(".params dt"))
    same.set(term.textContent.toLowerCase(), term.nextElementSibling.textContent.toLowerCase());

  const equal = (one, other) => one === other || number(one) === number(other);

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

  function filter() {
    const terms = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = (!kind.value || row.element.dataset.kind === kind.value) && terms.every((term) => matches(row, term));
      row.element.hidden = !fits;
      shown += fits;
    }
    status.textContent = `${shown} of ${rows.length} rows`;
  }

  // Figures that are not comparable come after those that are, and what is not there at the end, in either order.
  const group = (cell) => (cell.key === "—" || cell.key === "" ? 2 : cell.apart ? 1 : 0);

  function compare(one, other) {
    const [a, b] = [number(one), number(other)];
    if (!Number.isNaN(a) && !Number.isNaN(b)) return a - b;
    return one.localeCompare(other, undefined, { numeric: true });
  }

  function sort(column, direction) {
    const sign = direction === "ascending" ? 1 : -1;
    const sorted = [...rows].sort((one, other) => {
      const [a, b] = [one.cells[column], other.cells[column]];
      return group(a) - group(b) || sign * compare(a.key, b.key);
    });
    table.tBodies[0].append(...sorted.map((row) => row.element));
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[column].setAttribute("aria-sort", direction);
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

  text.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  controls.hidden = false;
  filter();
}
