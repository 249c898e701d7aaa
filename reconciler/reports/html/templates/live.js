(() => {
  "use strict";
  const state = document.getElementById("live");
  const body = document.querySelector("table.overview").tBodies[0];
  const seen = { page: document.body.dataset.page, now: document.body.dataset.now };

  const parse = async (path) => {
    const response = await fetch(path, { headers: { accept: "text/html" } });
    if (!response.ok) throw new Error(response.statusText);
    return new DOMParser().parseFromString(await response.text(), "text/html");
  };

  const swap = (part, source) => {
    const place = document.querySelector(`[data-live="${part}"]`);
    if (place.innerHTML !== source.innerHTML) place.replaceChildren(...source.childNodes);
  };

  const name = (row) => `${row.cells[0].textContent}\n${row.cells[1].textContent}`;

  // Rows stay the same elements, because the filter and the order of the columns are applied to them.
  const rows = (page) => {
    const old = new Map([...body.rows].map((row) => [name(row), row]));
    for (const row of page.querySelector("table.overview").tBodies[0].rows) {
      const known = old.get(name(row));
      old.delete(name(row));
      if (!known) body.append(row.cloneNode(true));
      else if (known.innerHTML !== row.innerHTML) {
        known.dataset.states = row.dataset.states;
        known.replaceChildren(...row.cloneNode(true).childNodes);
      }
    }
    for (const gone of old.values()) gone.remove();
    for (const counted of page.querySelectorAll(".tallies li")) {
      const shown = document.querySelector(`.tallies li[data-state="${counted.dataset.state}"]`);
      shown.hidden = counted.hidden;
      shown.querySelector(".count").textContent = counted.querySelector(".count").textContent;
    }
    document.getElementById("filter").dispatchEvent(new Event("input"));
  };

  const refresh = {
    now: async () => swap("now", (await parse("now")).body),
    page: async () => {
      const page = await parse(".");
      for (const part of ["summary", "now", "targets"]) swap(part, page.querySelector(`[data-live="${part}"]`));
      rows(page);
    },
  };

  const events = new EventSource("events");
  let work = Promise.resolve();
  for (const part of ["now", "page"]) {
    events.addEventListener(part, ({ data }) => {
      if (seen[part] === data) return;
      seen[part] = data;
      work = work.then(refresh[part]).catch(() => delete seen[part]);
    });
  }
  events.addEventListener("open", () => {
    state.textContent = "· live";
  });
  events.addEventListener("error", () => {
    state.textContent = "· not connected";
  });
})();
