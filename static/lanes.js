// The load of a timeline by uPlot, from the numbers of the table under it; a stretch drawn over it zooms every lane. Without this
// file the lanes are the server's drawings, and two time fields zoom them.
"use strict";
(() => {
  const lanes = document.querySelector(".lanes");
  const lane = lanes && lanes.querySelector(".lane.load");
  const table = lane && lane.querySelector("table");
  if (!table || !window.uPlot) return;
  const since = Number(lanes.dataset.since), until = Number(lanes.dataset.until), threshold = Number(lanes.dataset.threshold);
  const number = (cell) => (cell && cell.textContent.trim() !== "" && !cell.hasAttribute("colspan") ? Number(cell.textContent) : null);
  const read = [...table.tBodies[0].rows].map((row) => [Date.parse(row.querySelector("time").dateTime) / 1000, number(row.cells[1]), number(row.cells[2])]);
  if (!read.length) return;
  const data = [0, 1, 2].map((n) => read.map((row) => row[n]));
  // custom properties hold light-dark(): resolved on an element
  const probe = document.createElement("span");
  lane.append(probe);
  const ink = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const [low, limit, text] = [ink("--low"), ink("--critical"), ink("--muted")];
  probe.remove();

  const drawing = lane.querySelector("svg");
  const box = document.createElement("div");
  box.className = "chart";
  drawing.after(box);
  drawing.setAttribute("hidden", "");
  const said = document.createElement("p");
  said.className = "said";
  lane.querySelector("h3").after(said);
  const others = [...lanes.querySelectorAll(".lane > svg")].filter((svg) => svg !== drawing);
  for (const svg of others) {
    const clip = document.createElement("div");
    clip.className = "clip";
    svg.replaceWith(clip);
    clip.append(svg);
  }

  const reset = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: "Whole time", hidden: true });
  lane.querySelector("h3").append(" ", reset);

  /** Shows a part of the axis in every lane. */
  const zoom = (from, to) => {
    const all = until - since, part = Math.max(to - from, 1) / all, begin = (from - since) / all;
    for (const svg of others) {
      svg.style.width = `${100 / part}%`;
      svg.style.marginLeft = `${(-begin / part) * 100}%`;
    }
    reset.hidden = from <= since && to >= until;
  };
  const line = (plot) => {
    const y = plot.valToPos(threshold, "y", true), { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = limit;
    ctx.setLineDash([5, 4]);
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
    ctx.fillStyle = text;
    ctx.font = `${10 * devicePixelRatio}px system-ui`;
    ctx.fillText(`${threshold} %`, bbox.left + 2, y - 3);
    ctx.restore();
  };
  const plot = new uPlot({
    width: box.clientWidth, height: 96, padding: [4, 0, 0, 0], legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: true }, points: { show: false } },
    scales: { x: { time: true, range: (u, from, to) => [from, to] }, y: { range: [0, 100] } },
    axes: [{ show: false }, { show: false }],
    series: [{}, { stroke: low, fill: low, alpha: 0.75, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }, { stroke: text, width: 1, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }],
    hooks: {
      draw: [line],
      setScale: [(u, key) => { if (key === "x" && u.scales.x.min != null) zoom(u.scales.x.min, u.scales.x.max); }],
      setCursor: [(u) => {
        const at = u.cursor.idx;
        said.textContent = at == null || data[0][at] == null ? "" : `${new Date(data[0][at] * 1000).toISOString().slice(11, 16)}Z ${data[1][at] == null ? "no data" : `${data[1][at]} %`}`;
      }],
    },
  }, data, box);
  const whole = () => plot.setScale("x", { min: since, max: until });
  reset.addEventListener("click", whole);
  whole();
  addEventListener("resize", () => plot.setSize({ width: box.clientWidth, height: 96 }));
})();
