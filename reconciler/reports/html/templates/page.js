(() => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const tables = all("table.overview");

  // Open all details for printing, because they cannot be opened on paper.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    for (const details of closed) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
  if (!tables.length) return;

  const rows = () => tables.flatMap((table) => [...table.tBodies[0].rows]);
  const folds = all("details.folded");
  const parts = all("article[data-model]");
  const form = document.querySelector("form");
  const field = form.querySelector("input");
  const tally = document.querySelector("output");
  const pressed = new Set();

  const wanted = (row, text) => {
    const states = row.dataset.states.split("|");
    return (!pressed.size || states.some((state) => pressed.has(state))) && row.textContent.toLowerCase().includes(text);
  };

  const filter = () => {
    const text = field.value.trim().toLowerCase();
    const shown = new Set(rows().filter((row) => wanted(row, text)));
    for (const row of rows()) row.hidden = !shown.has(row);
    const filtered = text || pressed.size;
    const names = new Set([...shown].map((row) => row.dataset.model));
    for (const part of parts) part.hidden = filtered && !names.has(part.dataset.model);
    for (const fold of folds) {
      const found = [...fold.querySelectorAll("[data-model]")].some((part) => !part.hidden);
      fold.hidden = filtered && !found;
      fold.open = filtered && found;
    }
    tally.value = filtered ? `${shown.size} of ${rows().length} shown` : "";
  };

  const toButton = (element, act) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...element.childNodes);
    button.addEventListener("click", act);
    element.append(button);
    return button;
  };

  const key = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = cell.dataset.order ?? cell.textContent.trim();
    if (!numeric) return text.toLowerCase();
    const number = Number.parseFloat(text);
    return Number.isNaN(number) ? "" : number;
  };

  // Empty values and text in a column of numbers come last in both directions.
  const compare = (left, right) => {
    if (left === "" || right === "") return (left === "") - (right === "");
    return left < right ? -1 : Number(left > right);
  };

  const sort = (head) => {
    const table = head.closest("table");
    const body = table.tBodies[0];
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const cell of table.tHead.rows[0].cells) if (cell.dataset.sort) cell.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = [...body.rows].map((row) => [key(row, head.cellIndex, head.dataset.sort === "number"), row]);
    keyed.sort(([left], [right]) => (up || left === "" || right === "" ? compare(left, right) : compare(right, left)));
    body.append(...keyed.map(([, row]) => row));
  };

  for (const tallied of all(".tallies li")) {
    const state = tallied.dataset.state;
    const button = toButton(tallied, () => {
      const on = !pressed.delete(state);
      if (on) pressed.add(state);
      button.setAttribute("aria-pressed", String(on));
      filter();
    });
    button.setAttribute("aria-pressed", "false");
  }
  for (const head of all("table.overview th[data-sort]")) {
    head.setAttribute("aria-sort", "none");
    toButton(head, () => sort(head));
  }
  form.addEventListener("submit", (event) => event.preventDefault());
  field.addEventListener("input", filter);
  form.hidden = false;
})();
