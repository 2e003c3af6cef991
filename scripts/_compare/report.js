"use strict";

// Tables: a click on a heading sorts by it, a second click the other way round; cells without a value stay last.
function value(row, column) {
  const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const number = Number(text);
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function order(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function sort(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const sign = descending ? -1 : 1;
  const rows = [...table.tBodies[0].rows].sort((left, right) => {
    const a = value(left, column);
    const b = value(right, column);
    if (a === null || b === null) return (a === null) - (b === null);
    return sign * order(a, b);
  });
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  table.tBodies[0].append(...rows);
}

for (const heading of document.querySelectorAll("table.sortable th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sort(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sort(heading);
  });
}

// Charts: their data lie in the page.
const figures = JSON.parse(document.getElementById("figures").textContent);
const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };

function show(id, figure) {
  const place = document.getElementById(id);
  if (place && figure) Plotly.react(place, figure.data, figure.layout, options);
}

const choice = document.getElementById("quantity");
function showCurves() {
  for (const axis of ["steps", "seconds"]) show(`curves-${axis}`, figures.curves[choice.value]?.[axis]);
}
show("scores", figures.scores);
if (choice) {
  choice.addEventListener("change", showCurves);
  showCurves();
}
