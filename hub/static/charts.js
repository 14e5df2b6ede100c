// Draws each [data-chart] with uPlot: readings as a line with points, limits as dashed lines, doubtful ones as crosses.
const RED = "#b2160b";
const AMBER = "#8a5300";
const zone = "Europe/London";

const full = new Intl.DateTimeFormat("en-GB", { timeZone: zone, day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" });

const hour = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { timeZone: zone, day: "numeric", month: "short" });

const month = new Intl.DateTimeFormat("en-GB", { timeZone: zone, month: "short", year: "numeric" });
const YEAR = 366 * 86400;

// Midnight shows the day, other ticks the hour; over more than a year a tick without its year would mislead.
function tick(seconds, long) {
  const at = new Date(seconds * 1000);
  if (long) return month.format(at);
  const clock = hour.format(at);
  return clock === "00:00" || clock === "24:00" ? day.format(at) : clock;
}

function limits(data) {
  return {
    hooks: {
      drawAxes: [(plot) => {
        const context = plot.ctx;
        const [lowRed, lowAmber, highAmber, highRed] = data.limits;
        context.save();
        context.beginPath();
        context.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height);
        context.clip();
        context.textAlign = "left";
        context.textBaseline = "alphabetic";
        context.setLineDash([6, 4]);
        context.lineWidth = 1.5 * devicePixelRatio;
        context.font = `${13 * devicePixelRatio}px Arial`;
        for (const [bound, colour, word] of [[lowRed, RED, "red"], [lowAmber, AMBER, "amber"], [highAmber, AMBER, "amber"], [highRed, RED, "red"]]) {
          if (bound === null) continue;
          const y = plot.valToPos(bound, "y", true);
          context.strokeStyle = colour;
          context.fillStyle = colour;
          context.beginPath();
          context.moveTo(plot.bbox.left, y);
          context.lineTo(plot.bbox.left + plot.bbox.width, y);
          context.stroke();
          context.fillText(`${word} ${bound}`, plot.bbox.left + 6 * devicePixelRatio, y - 4 * devicePixelRatio);
        }
        context.restore();
      }],
    },
  };
}

function cross(plot, series, left, right) {
  const context = plot.ctx;
  context.save();
  context.strokeStyle = AMBER;
  context.lineWidth = 2 * devicePixelRatio;
  const size = 5 * devicePixelRatio;
  for (let index = left; index <= right; index++) {
    const value = plot.data[series][index];
    if (value === null || value === undefined) continue;
    const x = plot.valToPos(plot.data[0][index], "x", true);
    const y = plot.valToPos(value, "y", true);
    context.beginPath();
    context.moveTo(x - size, y - size); context.lineTo(x + size, y + size);
    context.moveTo(x - size, y + size); context.lineTo(x + size, y - size);
    context.stroke();
  }
  context.restore();
  return null;
}

function draw(box) {
  const data = JSON.parse(box.dataset.chart);
  const { unit, name } = box.dataset;
  const long = data.until - data.from > YEAR;
  const bounds = data.limits.filter((bound) => bound !== null);
  const show = (value) => (value === null || value === undefined ? "" : `${value.toFixed(data.decimals)} ${unit}`);
  box.replaceChildren();
  const plot = new window.uPlot({
    width: box.clientWidth,
    height: 260,
    tzDate: (seconds) => window.uPlot.tzDate(new Date(seconds * 1000), zone),
    plugins: [limits(data)],
    scales: {
      x: { min: data.from, max: data.until },
      y: {
        range: (_, low, high) => {
          const all = [...bounds, ...(low === null ? [] : [low, high])];
          const bottom = Math.min(...all), top = Math.max(...all);
          const room = (top - bottom || 2) * 0.12;
          return [bottom - room, top + room];
        },
      },
    },
    axes: [{ font: "13px Arial", space: long ? 80 : 50, values: (_, ticks) => ticks.map((one) => tick(one, long)) }, { font: "13px Arial", size: 56 }],
    series: [
      { label: "When", value: (_, seconds) => (seconds === null ? "" : full.format(new Date(seconds * 1000))) },
      { label: name, stroke: "#005eb8", width: 2, spanGaps: true, points: { show: true, size: 6, fill: "#005eb8" }, value: (_, value) => show(value) },
      { label: "Check", stroke: AMBER, paths: () => null, points: { show: cross }, value: (_, value) => show(value) },
    ],
  }, [data.at, data.value, data.doubtful], box);
  new ResizeObserver(() => plot.setSize({ width: box.clientWidth, height: 260 })).observe(box);
}

for (const box of document.querySelectorAll("[data-chart]")) draw(box);
