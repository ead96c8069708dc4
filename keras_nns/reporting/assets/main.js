/* Tables that sort, the contents list, and the start of all parts. */

/** Read a cell as a number where it has one: of "0.972 → 0.785" the last. */
function sortKey(text) {
  const found = text.split("→").at(-1).replaceAll(",", "").match(/-?\d+(\.\d+)?/);
  return found ? Number(found[0]) : null;
}

function sortable(table) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  const original = [...body.rows];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = make("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    head.setAttribute("scope", "col");
    button.addEventListener("click", () => {
      const turn = { ascending: "descending", descending: "none" }[head.getAttribute("aria-sort")] ?? "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      if (turn !== "none") head.setAttribute("aria-sort", turn);
      const text = (row) => row.cells[column].textContent.trim();
      const numeric = original.every((row) => sortKey(text(row)) !== null || /^[–-]?$/.test(text(row)));
      const key = (row) => (numeric ? sortKey(text(row)) ?? -Infinity : text(row));
      const compare = (a, b) => (numeric ? key(a) - key(b) : key(a).localeCompare(key(b)));
      const rows = turn === "none" ? original : [...original].sort((a, b) => (turn === "ascending" ? compare(a, b) : compare(b, a)));
      body.replaceChildren(...rows);
    });
  });
}

/** Say what a large model has beside what is shown. */
function leftOut(id, number, noun, verb = "shown") {
  if (number) find(id)?.append(make("p", { class: "quiet" }, `${plural(number, `more ${noun}`)} ${number === 1 ? "is" : "are"} not ${verb}.`));
}

leftOut("desk", data.left_out.networks, "network");
leftOut("unit-map", data.left_out.layers, "layer");
leftOut("unit-map", data.left_out.labels, "label");

document.querySelectorAll("main table").forEach(sortable);
document.querySelectorAll(".wide").forEach((box) => { box.tabIndex = 0; });

// On a phone the list of contents would fill the screen.
if (matchMedia("(max-width: 70rem)").matches) document.querySelector(".contents details").open = false;

for (const start of [startSizes, startUnits, startRule, startOverlap, startFigures, startCosts, startWeights, startFiles]) start();
