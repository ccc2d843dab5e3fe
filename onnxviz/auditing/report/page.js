"use strict";
(() => {
  const details = JSON.parse(document.getElementById("details").textContent);
  const MOST = 200;

  const make = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  };
  const said = (value) => value === null ? "–"
    : String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));

  // Rows with the details that were unfolded below them stay together.
  const groups = (body) => {
    const found = [];
    for (const row of body.rows) {
      if (row.classList.contains("detail")) found[found.length - 1].push(row);
      else found.push([row]);
    }
    return found;
  };
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
  };
  // Figures come before words, and what is not known comes last, whichever way is up.
  const rank = (key, numeric) => key === "" ? 2 : Number(numeric && Number.isNaN(Number(key)));
  const compare = (a, b, numeric) => numeric ? Number(a) - Number(b) : a.localeCompare(b);

  const sort = (head) => {
    const table = head.closest("table"), body = table.tBodies[0], column = head.cellIndex;
    const rising = head.getAttribute("aria-sort") !== "ascending";
    const numeric = head.classList.contains("n");
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const keyed = groups(body).map((rows, place) => ({ rows, place, key: value(rows[0], column) }));
    keyed.sort((one, other) => {
      const kind = rank(one.key, numeric), apart = kind - rank(other.key, numeric);
      if (apart) return apart;
      return (rising ? 1 : -1) * compare(one.key, other.key, numeric && kind === 0) || one.place - other.place;
    });
    body.append(...keyed.flatMap((each) => each.rows));
  };
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  const filter = (tools) => {
    const table = document.getElementById(tools.dataset.table);
    const wanted = tools.querySelector("input[type=search]").value.trim().toLowerCase();
    const levels = [...tools.querySelectorAll("input[type=checkbox]")];
    const shown = new Set(levels.filter((box) => box.checked).map((box) => box.value));
    let count = 0;
    for (const rows of groups(table.tBodies[0])) {
      const text = rows[0].textContent.toLowerCase();
      const fits = text.includes(wanted) && (!levels.length || shown.has(rows[0].dataset.severity));
      for (const row of rows) row.hidden = !fits;
      count += fits;
    }
    tools.querySelector("output").textContent = count + " of " + groups(table.tBodies[0]).length;
  };
  for (const tools of document.querySelectorAll(".tools")) {
    tools.addEventListener("input", () => filter(tools));
    filter(tools);
  }

  const table = (heads, rows) => {
    const made = make("table"), head = made.createTHead().insertRow(), body = made.createTBody();
    for (const text of heads) head.append(make("th", text, text === "flags" ? "" : "n"));
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((cell) => line.append(
        make("td", typeof cell === "string" ? cell : said(cell), typeof cell === "string" ? "" : "n")));
    }
    return made;
  };
  const channels = (rows) => {
    const box = make("div");
    const flagged = [...rows].sort((a, b) => (b[4] !== "") - (a[4] !== "") || a[0] - b[0]);
    const draw = (count) => {
      box.replaceChildren(table(["channel", "lowest", "highest", "mean", "flags"], flagged.slice(0, count)));
      if (count < rows.length) {
        const more = make("button", "Show all " + rows.length + " channels", "more");
        more.addEventListener("click", () => draw(rows.length));
        box.append(more);
      }
    };
    draw(MOST);
    return box;
  };
  const unfold = (button) => {
    const row = button.closest("tr"), isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) { row.nextElementSibling.remove(); return; }
    const known = details[button.dataset.layer];
    const line = make("tr", undefined, "detail"), cell = line.insertCell();
    cell.colSpan = row.cells.length;
    const facts = make("dl");
    for (const [name, text] of known.facts) facts.append(make("dt", name), make("dd", text));
    cell.append(facts);
    if (known.worst.length) cell.append(make("h3", "Channels that differ most"),
      table(["channel", "SQNR dB", "relative L2"], known.worst));
    if (known.channels.length) cell.append(make("h3", "Channels, those with a flag first"), channels(known.channels));
    row.after(line);
  };
  for (const button of document.querySelectorAll("button.open")) {
    button.addEventListener("click", () => unfold(button));
  }
})();
