// The case browser: one table that is filtered and sorted, one case that is shown. Classic script, no library.
"use strict";
(function () {
  const study = JSON.parse(document.getElementById("study").textContent);
  const byId = new Map(study.cases.map((item) => [item.id, item]));
  const table = document.getElementById("case-table");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const find = document.getElementById("find");
  const diagnosis = document.getElementById("diagnosis");
  const metric = document.getElementById("metric");
  const flagged = document.getElementById("flagged");
  const shown = document.getElementById("shown");
  const view = document.getElementById("case-view");
  const listeners = [];
  let current = null;

  window.ct2vqStudy = study;
  window.ct2vqOnCase = (listener) => {
    listeners.push(listener);
    if (current) listener(current);
  };

  function cellText(row, column) {
    return row.cells[column].dataset.value || row.cells[column].textContent.trim();
  }

  function visibleRows() {
    return Array.from(body.rows).filter((row) => !row.hidden);
  }

  function filter() {
    const words = find.value.trim().toLowerCase();
    for (const row of rows) {
      const item = byId.get(row.dataset.case);
      const fits = words === "" || row.textContent.toLowerCase().includes(words);
      const kind = diagnosis.value === "" || item.diagnosis === diagnosis.value;
      row.hidden = !(fits && kind && (!flagged.checked || item.flags.length > 0));
    }
    shown.textContent = visibleRows().length + " of " + rows.length + " cases";
  }

  function sort(heading) {
    const column = heading.cellIndex;
    const numbers = heading.dataset.sort === "number";
    // numbers start with the lowest: the worst cases are what a reader looks for
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const ordered = Array.from(body.rows).sort((a, b) => {
      const first = cellText(a, column);
      const second = cellText(b, column);
      if (!numbers) return direction * first.localeCompare(second, "en", { numeric: true });
      const x = parseFloat(first);
      const y = parseFloat(second);
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return direction * (x - y);
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    body.append(...ordered);
  }

  function number(value, digits) {
    return value === null ? "n/a" : value.toFixed(digits).replace("-", "\u2212");
  }

  function showMetric() {
    const first = table.tHead.rows[0].querySelector("[data-column]").cellIndex;
    study.columns.forEach((column, place) => {
      for (const row of rows) {
        const value = byId.get(row.dataset.case).values[metric.value][place];
        row.cells[first + place].textContent = number(value, 2);
        row.cells[first + place].dataset.value = value === null ? "NaN" : value;
      }
    });
    document.getElementById("metric-name").textContent = study.metrics[metric.value];
    if (current) describe(current);
  }

  function describe(item) {
    const list = view.querySelector(".facts");
    list.textContent = "";
    study.columns.forEach((column, place) => {
      const value = item.values[metric.value][place];
      if (value === null) return;
      const entry = document.createElement("li");
      entry.textContent = column.label + ": " + number(value, 3);
      list.append(entry);
    });
    view.querySelector(".metric").textContent = study.metrics[metric.value];
  }

  function link(text, href) {
    const anchor = document.createElement("a");
    anchor.href = href;
    anchor.textContent = text;
    return anchor;
  }

  function show(id) {
    const item = byId.get(id);
    if (!item) return;
    current = item;
    view.hidden = false;
    for (const row of rows) {
      row.classList.toggle("chosen", row.dataset.case === id);
      if (row.dataset.case === id) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    view.querySelector("h3").textContent = item.id + " \u00b7 " + item.diagnosis;
    const image = view.querySelector("img");
    image.alt = "CT, SPECT, synthesised images and differences of " + item.id;
    image.src = item.panel;
    view.querySelector(".full").href = item.panel;
    const flags = view.querySelector(".flags");
    flags.textContent = "";
    for (const words of item.flags) {
      const entry = document.createElement("li");
      entry.textContent = words;
      flags.append(entry);
    }
    const more = view.querySelector(".more");
    more.textContent = "";
    for (const [text, href] of item.links) more.append(link(text, href), " ");
    describe(item);
    listeners.forEach((listener) => listener(item));
  }

  function keepInSight(row) {
    const box = row.closest(".list");
    const top = row.offsetTop - table.tHead.offsetHeight;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (row.offsetTop + row.offsetHeight > box.scrollTop + box.clientHeight)
      box.scrollTop = row.offsetTop + row.offsetHeight - box.clientHeight;
  }

  function step(by) {
    const list = visibleRows();
    if (!list.length) return;
    const place = list.findIndex((row) => current && row.dataset.case === current.id);
    const next = list[place < 0 ? 0 : (place + by + list.length) % list.length];
    show(next.dataset.case);
    keepInSight(next);
  }

  rows.forEach((row) =>
    row.addEventListener("click", (event) => {
      if (event.target.closest("a") && !event.target.closest("a.pick")) return;
      event.preventDefault();
      show(row.dataset.case);
    })
  );
  for (const heading of table.tHead.rows[0].cells)
    heading.querySelector("button").addEventListener("click", () => sort(heading));
  [find, diagnosis, flagged].forEach((control) => control.addEventListener("input", filter));
  metric.addEventListener("input", showMetric);
  view.querySelector(".before").addEventListener("click", () => step(-1));
  view.querySelector(".after").addEventListener("click", () => step(1));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("input, select, textarea, canvas, .wide")) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });

  function fromAddress() {
    // no element has the address as its id: the browser would scroll there by itself, and later
    const row = rows.find((row) => "#case-" + row.dataset.case === location.hash);
    if (!row) return;
    show(row.dataset.case);
    if (!row.hidden) keepInSight(row);
    view.scrollIntoView();
  }

  addEventListener("hashchange", fromAddress);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((box) => (box.open = true)));
  filter();
  fromAddress();
  if (!current && rows.length) show(rows[0].dataset.case);

  const times = document.createElement("script");
  window.ct2vqTimes = (entries) => {
    const place = document.getElementById("times");
    for (const entry of entries) {
      const row = place.tBodies[0].insertRow();
      for (const text of entry) row.insertCell().textContent = text;
    }
    place.closest("[hidden]").hidden = false;
  };
  times.src = study.times;
  document.head.append(times);
})();
