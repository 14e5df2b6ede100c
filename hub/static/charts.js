// Reads the charts that the server drew: a line under the pointer, at the same instant in all of them, and beside each its
// nearest reading. Without script the charts, their marks and the tables under them say everything.
const NEAR = 0.03;

const charts = [...document.querySelectorAll("[data-readout]")].map((figure) => {
  const { since, until, readout } = figure.dataset;
  const line = figure.appendChild(document.createElement("span"));
  line.className = "hub-plot__line";
  line.hidden = true;
  const said = figure.querySelector(".hub-plot__spoken");
  return { figure, line, said, usual: said.textContent, points: JSON.parse(readout), since: Number(since), long: until - since };
});

function nearest(points, at) {
  let low = 0, high = points.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < at) low = middle + 1; else high = middle;
  }
  const [before, after] = [points[low - 1], points[low]];
  if (!before || !after) return before ?? after;
  return at - before[0] < after[0] - at ? before : after;
}

function show(share) {
  for (const chart of charts) {
    const at = chart.since + share * chart.long;
    const point = nearest(chart.points, at);
    const near = point && Math.abs(point[0] - at) < NEAR * chart.long;
    const place = near ? (point[0] - chart.since) / chart.long : share;
    const box = chart.figure.querySelector("svg").getBoundingClientRect();
    chart.line.style.left = `${box.left - chart.figure.getBoundingClientRect().left + place * box.width}px`;
    chart.line.hidden = false;
    chart.said.textContent = near ? point[1] : "No reading here";
    chart.said.classList.add("hub-plot__read");
  }
}

function hide() {
  for (const chart of charts) {
    chart.line.hidden = true;
    chart.said.textContent = chart.usual;
    chart.said.classList.remove("hub-plot__read");
  }
}

for (const { figure } of charts) {
  const move = (event) => {
    const box = figure.querySelector("svg").getBoundingClientRect();
    const share = (event.clientX - box.left) / box.width;
    if (share >= 0 && share <= 1) show(share); else hide();
  };
  figure.addEventListener("pointermove", move);
  figure.addEventListener("pointerdown", move);
  figure.addEventListener("pointerleave", hide);
}
