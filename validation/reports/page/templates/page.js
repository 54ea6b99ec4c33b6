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
      for (const box of document.querySelectorAll(".canvas a.box")) {
        box.classList.toggle("dim", document.getElementById(box.getAttribute("href").slice(1))?.classList.contains("off") ?? false);
      }
      sought.textContent = word ? `${count} found` : "";
    });
  }

  // The pictures: a module opens to a picture of its own, on both sides where both have it; an operation tells its sizes and attributes.
  const show = (view) => {
    const side = view.closest(".pictures");
    for (const other of side.querySelectorAll(".view")) other.hidden = other !== view;
    side.querySelector(".told").replaceChildren();
  };
  const tellOf = (box, leaf) => {
    const told = box.closest(".pictures").querySelector(".told");
    const head = document.createElement("p");
    head.append(...[...leaf.querySelector("summary").childNodes].map((node) => node.cloneNode(true)));
    told.replaceChildren(head, leaf.querySelector("dl").cloneNode(true));
    for (const other of box.closest(".pictures").querySelectorAll("a.chosen")) other.classList.remove("chosen");
    for (const same of document.querySelectorAll(`.pictures a[href="#${leaf.id}"]`)) same.classList.add("chosen");
  };
  const boxOf = (anchor) => document.querySelector(`.pictures .view:not([hidden]) a[href="#${anchor}"]`);
  for (const link of document.querySelectorAll(".pictures a")) {
    link.addEventListener("click", (event) => {
      const found = document.getElementById(link.getAttribute("href").slice(1));
      const view = found?.classList.contains("view") ? found : document.getElementById(`view-${found?.id}`);
      if (view) {
        event.preventDefault();
        show(view);
        for (const other of document.querySelectorAll(".view")) {
          if (other !== view && other.dataset.path === view.dataset.path && other.closest(".pictures") !== view.closest(".pictures")) show(other);
        }
        view.querySelector(".canvas").focus({ preventScroll: true });
      } else if (found?.classList.contains("leaf")) {
        event.preventDefault();
        tellOf(link, found);
        const twin = found.dataset.twin && document.getElementById(found.dataset.twin);
        const there = twin && boxOf(twin.id);
        if (there) tellOf(there, twin);
      }
    });
  }
  for (const side of document.querySelectorAll(".pictures")) {
    const canvases = side.querySelectorAll(".canvas");
    let level = 0;
    const zoom = (by) => {
      level = by === 0 ? 0 : Math.max(0, Math.min(6, level + by));
      for (const canvas of canvases) canvas.style.setProperty("--zoom", 1.4 ** level);
    };
    side.querySelector(".zoom").hidden = false;
    for (const button of side.querySelectorAll(".zoom button")) button.addEventListener("click", () => zoom(Number(button.dataset.zoom)));
    for (const canvas of canvases) {
      canvas.addEventListener("keydown", (event) => {
        const by = { "+": 1, "=": 1, "-": -1, 0: 0 }[event.key];
        if (by === undefined || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        zoom(by);
      });
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return;
        event.preventDefault();
        zoom(event.deltaY < 0 ? 1 : -1);
      }, { passive: false });
      let from = null;
      canvas.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse" && !event.target.closest("a")) from = [event.clientX + canvas.scrollLeft, event.clientY + canvas.scrollTop];
      });
      canvas.addEventListener("pointermove", (event) => {
        if (from) { canvas.scrollLeft = from[0] - event.clientX; canvas.scrollTop = from[1] - event.clientY; }
      });
      for (const end of ["pointerup", "pointerleave"]) canvas.addEventListener(end, () => { from = null; });
    }
  }

  // On paper everything is open.
  const shut = [];
  addEventListener("beforeprint", () => {
    for (const model of document.querySelectorAll("details.model:not([open]), details.branch:not([open])")) { shut.push(model); model.open = true; }
  });
  addEventListener("afterprint", () => { for (const model of shut.splice(0)) model.open = false; });
})();
