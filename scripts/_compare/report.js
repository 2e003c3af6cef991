"use strict";

// Tables: a click on a heading sorts by the text or by the number that it begins with, a second click reverses the
// order; empty cells stay last.
function value(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = /^[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?(?= |$)/.exec(text);
  return text === "" || text === "nan" ? null : number ? Number(number[0].replaceAll(",", "")) : text;
}

function order(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

function sort(heading) {
  const body = heading.closest("table").tBodies[0];
  const column = heading.cellIndex;
  const descending = heading.getAttribute("aria-sort") === "ascending";
  const rows = [...body.rows].sort((left, right) => {
    const [a, b] = [value(left, column), value(right, column)];
    if (a === null || b === null) return (a === null) - (b === null);
    return descending ? order(b, a) : order(a, b);
  });
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}

for (const heading of document.querySelectorAll("table.sortable th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sort(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key === "Enter") sort(heading);
  });
}

// Learning curves: the charts of the chosen quantity are visible. A hidden chart cannot know its width.
const choice = document.getElementById("quantity");
choice?.addEventListener("change", () => {
  for (const panel of document.querySelectorAll(".quantity")) {
    panel.hidden = panel.dataset.quantity !== choice.value;
    if (!panel.hidden) panel.querySelectorAll(".js-plotly-plot").forEach((chart) => Plotly.Plots.resize(chart));
  }
});
