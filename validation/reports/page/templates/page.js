(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

  // Light and dark: the system's choice until the button is pressed.
  const theme = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = { get: () => { try { return localStorage.getItem("netferry-theme"); } catch { return null; } },
                 set: (value) => { try { localStorage.setItem("netferry-theme", value); } catch { /* not allowed here */ } } };
  let chosen = kept.get();
  const dress = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    root.style.colorScheme = chosen || "";
    root.dataset.theme = dark ? "dark" : "light";
    theme.textContent = dark ? "Light" : "Dark";
    theme.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  };
  theme.hidden = false;
  theme.addEventListener("click", () => {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    kept.set(chosen);
    dress();
  });
  system.addEventListener("change", dress);
  dress();

  // Tables: a column's button sorts by the values behind the words.
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const column = Number(button.dataset.sort);
      const head = button.closest("th");
      const table = button.closest("table");
      const numeric = head.classList.contains("numeric");
      const upward = head.getAttribute("aria-sort") !== (numeric ? "descending" : "ascending") ? !numeric : numeric;
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", upward ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value;
      const order = numeric ? (a, b) => Number(value(a)) - Number(value(b)) : (a, b) => value(a).localeCompare(value(b));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (upward ? order(a, b) : order(b, a)));
      table.tBodies[0].append(...rows);
    });
  }

  // The matrix: a square, or the address, opens one journey of one model.
  const open = (anchor) => {
    const found = document.getElementById(anchor);
    if (!found) return null;
    const model = found.closest("details.model");
    if (!model) return found;
    model.open = true;
    const journey = found === model ? document.getElementById(model.dataset.opens) : found;
    for (const other of model.querySelectorAll(".journey")) other.classList.toggle("open", other === journey);
    for (const link of document.querySelectorAll(`a[aria-current]`)) link.removeAttribute("aria-current");
    for (const link of document.querySelectorAll(".square[href], .stop")) {
      if (link.getAttribute("href").slice(1) === journey.id) link.setAttribute("aria-current", "true");
    }
    return found;
  };
  const go = () => {
    const found = open(decodeURIComponent(location.hash.slice(1)));
    if (!found) return;
    found.scrollIntoView();
    if (found.classList.contains("journey")) found.focus({ preventScroll: true });
  };
  for (const model of document.querySelectorAll("details.model")) {
    document.getElementById(model.dataset.opens).classList.add("open");
  }
  addEventListener("hashchange", go);
  if (location.hash) go();

  // One stop for the tabulator key in the heat map; arrows move within it.
  const squares = [...document.querySelectorAll(".heat .square[href]")];
  const readout = document.getElementById("readout");
  const tell = (square) => { readout.textContent = square.dataset.caption; };
  const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  squares.forEach((square, place) => {
    square.tabIndex = place ? -1 : 0;
    square.addEventListener("mouseenter", () => tell(square));
    square.addEventListener("focus", () => {
      for (const other of squares) other.tabIndex = other === square ? 0 : -1;
      tell(square);
    });
    square.addEventListener("keydown", (event) => {
      if (!(event.key in step)) return;
      const [across, down] = step[event.key];
      const cell = square.closest("td");
      const row = cell.parentElement;
      const next = across
        ? row.cells[cell.cellIndex + across]
        : row.parentElement.rows[row.sectionRowIndex + down]?.cells[cell.cellIndex];
      const target = next?.querySelector(".square[href]");
      if (target) { event.preventDefault(); target.focus(); }
    });
  });

  // The operations: what a word is in stays, with the modules that it is in open.
  const seek = document.getElementById("seek");
  if (seek) {
    const sought = document.getElementById("sought");
    seek.closest(".search").hidden = false;
    seek.addEventListener("input", () => {
      const word = seek.value.trim().toLowerCase();
      let count = 0;
      for (const leaf of document.querySelectorAll(".outline .leaf")) {
        const path = [];
        for (let at = leaf.parentElement.closest("details"); at; at = at.parentElement.closest("details")) {
          path.push(at.querySelector(":scope > summary b").textContent.toLowerCase());
        }
        const fits = !word || leaf.dataset.words.includes(word) || path.some((name) => name.includes(word));
        leaf.classList.toggle("off", !fits);
        count += fits ? 1 : 0;
      }
      for (const branch of document.querySelectorAll(".outline .branch")) {
        const some = branch.querySelector(".leaf:not(.off)") !== null;
        branch.classList.toggle("off", !some);
        branch.open = word !== "" && some;
      }
      sought.textContent = word ? `${count} found` : "";
    });
  }

  // On paper everything is open.
  const shut = [];
  addEventListener("beforeprint", () => {
    for (const model of document.querySelectorAll("details.model:not([open]), details.branch:not([open])")) { shut.push(model); model.open = true; }
  });
  addEventListener("afterprint", () => { for (const model of shut.splice(0)) model.open = false; });
})();
