// What the page knows: turns by speaker, their chunks, loudness; how time is written and what lies where.
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { duration, classes, statuses, segments, speakers } = data;
const total = Math.max(duration, 0.001);
const peaks = Uint8Array.from(atob(data.peaks), (c) => c.charCodeAt(0));
const NONE = classes.length;  // keys of the legend: an emotion's index, then NONE + the index of a status

segments.forEach((s, index) => {
  s.index = index;
  s.key = s.top >= 0 ? s.top : NONE + s.no;
  s.said = s.top >= 0 ? classes[s.top] : statuses[s.no];
});

// Turns of each speaker in order; `reach` is the latest end so far, so that a search by time can begin in the middle.
const sorted = (rows) => {
  const reach = new Float64Array(rows.length);
  rows.forEach((s, i) => { reach[i] = Math.max(s.to, i ? reach[i - 1] : 0); });
  return { rows, reach };
};
const everyone = sorted(segments);
const laneRows = speakers.map((_, who) => sorted(segments.filter((s) => s.who === who)));
const spoken = laneRows.map(({ rows }) => rows.reduce((sum, s) => sum + s.to - s.from, 0));
const talk = spoken.reduce((a, b) => a + b, 0) || 1;

function firstAt({ reach }, t) {
  let low = 0, high = reach.length;
  while (low < high) { const mid = (low + high) >> 1; if (reach[mid] < t) low = mid + 1; else high = mid; }
  return low;
}
function* between(lane, from, to) {
  for (let i = firstAt(lane, from); i < lane.rows.length && lane.rows[i].from <= to; i++) if (lane.rows[i].to >= from) yield lane.rows[i];
}
// The turn heard at a moment (of one speaker where one is given): the one that began last, -1 for none.
function turnAt(t, who = -1) {
  let found = -1;
  for (const s of between(who < 0 ? everyone : laneRows[who], t, t)) if (t < s.to) found = s.index;
  return found;
}
const cellAt = (s, t) => s.cells.find(([from, to]) => t >= from && t < to) ?? s.cells[0] ?? null;

function loudness(from, to) {
  let most = 0;
  const last = Math.min(peaks.length - 1, Math.max(Math.floor(from * data.peaksPerS), Math.ceil(to * data.peaksPerS) - 1));
  for (let i = Math.max(0, Math.floor(from * data.peaksPerS)); i <= last; i++) if (peaks[i] > most) most = peaks[i];
  return most / 255;
}

function clock(t, tenths = false) {
  const whole = tenths ? Math.floor(t * 10 + 1e-6) / 10 : Math.floor(t + 1e-6);
  const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
  const sec = (tenths ? s.toFixed(1) : String(s)).padStart(tenths ? 4 : 2, "0");
  return h ? `${h}:${String(m).padStart(2, "0")}:${sec}` : `${m}:${sec}`;
}
function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Colours are read once and again when light turns to dark, not for each thing drawn.
const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = {};
function readTheme() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "faint", "card", "sans"]) theme[name] = style.getPropertyValue(`--${name}`).trim();
  theme.colours = data.colours.map((pair) => pair[dark.matches ? 1 : 0]);
  const tile = document.createElement("canvas");
  tile.width = tile.height = 14;
  const pen = tile.getContext("2d");
  pen.scale(2, 2);
  pen.strokeStyle = theme.soft;
  pen.globalAlpha = 0.55;
  for (const at of [-7, 0, 7]) { pen.beginPath(); pen.moveTo(at - 1, 8); pen.lineTo(at + 8, -1); pen.stroke(); }
  theme.hatch = pen.createPattern(tile, "repeat");
  theme.hatch.setTransform(new DOMMatrix([0.5, 0, 0, 0.5, 0, 0]));
}
readTheme();

// What is shown alone: keys of the legend (nothing chosen: everything) and one speaker of the table.
const chosen = new Set();
const wanted = (key) => !chosen.size || chosen.has(key);
