// Tables sort by a click on a heading; a link into a closed part opens it.
function value(row, at) {
  const said = row.cells[at].dataset.value, number = parseFloat(said);
  return said !== "" && !isNaN(said) ? number : said;
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const heading = event.target.closest("th");
    if (!heading || event.target.closest("a")) return;
    const at = heading.cellIndex, body = table.tBodies[0];
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((a, b) => {
      const x = value(a, at), y = value(b, at);
      if (x === y) return 0;
      if (x === "") return 1;
      if (y === "") return -1;
      return (x < y ? -1 : 1) * (up ? 1 : -1);
    });
    body.append(...rows);
  });
}
function show() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", show);
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => (d.open = true)));
show();
