// Drawing: the lanes, the small map of the whole recording, and the strip of the player.
const LABEL = 22, GAP = 12, AXIS = 24;  // pixels
const LANE = speakers.length <= 4 ? 66 : speakers.length <= 8 ? 48 : 34;  // many speakers still fit on a screen
const NAME = 19, FOOT = LANE > 40 ? 6 : 4;  // NAME is the room where a turn's emotion is written, FOOT the band that holds its full colour
const FAR_S = 0.9;  // from this many seconds a pixel on, turns are too thin to see: a lane shows columns of shares instead
const view = { from: 0, to: total };
let width = 0, shown = -1;  // shown: the turn that is described under the lanes

const x = (t) => ((t - view.from) / (view.to - view.from)) * width;
const timeAt = (px) => view.from + (px / width) * (view.to - view.from);
const strength = (p) => 0.3 + 0.7 * Math.min(1, Math.max(0, ((p ?? 0) / 100 - 0.15) / 0.7));
const laneTop = (who) => who * (LABEL + LANE + GAP) + LABEL;
const lanesHeight = Math.max(1, speakers.length) * (LABEL + LANE + GAP) + AXIS - GAP + 4;

function fitted(canvas, height) {
  const scale = devicePixelRatio || 1, w = canvas.clientWidth, wide = Math.round(w * scale), high = Math.round(height * scale);
  const pen = canvas.getContext("2d");
  if (canvas.width !== wide || canvas.height !== high) {
    canvas.style.height = `${height}px`;
    canvas.width = wide;
    canvas.height = high;
  }
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.globalAlpha = 1;
  pen.clearRect(0, 0, w, height);
  return [pen, w];
}

// ---- from far away: how much of each stretch a speaker fills, and with what ----
// Four people who take turns fill a quarter each: columns stand in relation to what is much for this recording at this scale.
const fills = new Map();
function muchOf(each) {
  const at = Math.round(2 * Math.log2(each));
  if (!fills.has(at)) {
    const step = 2 ** (at / 2), count = Math.ceil(total / step), found = [];
    for (const { rows } of laneRows) {
      const bins = new Float32Array(count);
      for (const s of rows) for (let bin = Math.floor(s.from / step); bin < count && bin * step < s.to; bin++) bins[bin] += Math.min(s.to, (bin + 1) * step) - Math.max(s.from, bin * step);
      for (const sum of bins) if (sum > 0) found.push(sum / step);
    }
    found.sort((a, b) => a - b);
    fills.set(at, Math.min(1, Math.max(0.1, found[Math.floor(0.97 * found.length)] ?? 1)));
  }
  return fills.get(at);
}
function drawColumns(pen, lane, from, to, w, top, height, wide, air) {
  const each = ((to - from) / w) * wide, much = each * muchOf(each), first = Math.floor(from / each), count = Math.ceil(to / each) - first + 1, keys = NONE + 1;
  const seconds = new Float32Array(count * keys), sure = new Float32Array(count * keys);
  for (const s of between(lane, first * each, to))
    for (const [a, b, k, probs] of s.top < 0 || !s.cells.length ? [[s.from, s.to, s.top, s.p]] : s.cells) {
      const key = k < 0 ? NONE : k, clear = k < 0 ? 1 : strength(probs[k]);
      for (let bin = Math.max(0, Math.floor(a / each) - first); bin < count && (bin + first) * each < b; bin++) {
        const here = Math.min(b, (bin + first + 1) * each) - Math.max(a, (bin + first) * each);
        if (here > 0) { seconds[bin * keys + key] += here; sure[bin * keys + key] += here * clear; }
      }
    }
  const piled = new Float32Array(count);
  const order = [...Array(keys).keys()].sort((a, b) => Number(wanted(b)) - Number(wanted(a)) || a - b);
  for (const key of order) {
    pen.fillStyle = key === NONE ? theme.hatch : theme.colours[key];
    const faded = key === NONE ? (chosen.size && ![...chosen].some((k) => k >= NONE) ? 0.12 : 1) : wanted(key) ? 1 : 0.12;
    for (let bin = 0; bin < count; bin++) {
      const here = seconds[bin * keys + key];
      if (!here) continue;
      const high = Math.max(0.5, Math.min(1, here / much) * height), foot = Math.min(height, piled[bin] + high);
      pen.globalAlpha = (sure[bin * keys + key] / here) * faded;
      pen.fillRect((((bin + first) * each - from) / (to - from)) * w, top + height - foot, wide - air, foot - piled[bin]);
      piled[bin] = foot;
    }
  }
  pen.globalAlpha = 1;
}

// ---- from near: turn by turn, chunk by chunk ----
function drawCell(pen, k, p, from, to, left, right, top) {
  const sure = strength(p) * (wanted(k) ? 1 : 0.12), room = LANE - NAME - FOOT - 4;
  pen.fillStyle = theme.colours[k];
  pen.globalAlpha = peaks.length ? 0.24 * sure + 0.04 : 0.5 * sure;
  pen.fillRect(left, top, right - left, LANE);
  pen.globalAlpha = sure;
  pen.fillRect(left, top + LANE - FOOT, right - left, FOOT);
  if (!peaks.length) return;
  const bar = (px, wide, until) => {
    const high = Math.max(2, Math.pow(loudness(timeAt(px), until), 1.4) * room);
    pen.fillRect(px, top + NAME + (room - high) / 2 + 1, wide, high);
  };
  const each = 4;  // a bar of 2 pixels and as much air; what is thinner than three of them is one bar
  if (right - left < 3 * each) bar(left, Math.max(1, right - left - (right - left > 4 ? 1 : 0)), to);
  else for (let px = Math.ceil(left / each) * each; px + 2 <= right; px += each) bar(px, 2, timeAt(px + each));
}
// Chunks of less than five pixels would be confetti: the turn is drawn as a whole.
const cellsOf = (s) => (s.cells.length > 1 && x(s.to) - x(s.from) < 5 * s.cells.length ? [[s.from, s.to, s.top, s.p]] : s.cells);
const widths = new Map();
function drawTurn(pen, s, top) {
  const left = Math.max(-20, x(s.from)), right = Math.min(width + 20, Math.max(x(s.to), x(s.from) + 2)), round = Math.min(6, (right - left) / 3);
  const rounded = right - left > 6;
  if (rounded) { pen.save(); pen.beginPath(); pen.roundRect(left, top, right - left, LANE, round); pen.clip(); }
  if (s.top < 0) {
    pen.globalAlpha = wanted(s.key) ? 1 : 0.2;
    pen.fillStyle = theme.hatch;
    pen.fillRect(left, top, right - left, LANE);
  } else
    for (const [from, to, k, probs] of cellsOf(s)) {
      if (to < view.from || from > view.to || k < 0) continue;
      drawCell(pen, k, probs[k], from, to, Math.max(left, x(from)), Math.min(right, x(to)), top);
    }
  if (rounded) pen.restore();
  pen.globalAlpha = 1;
  if (s.overlap) { pen.fillStyle = theme.ink; for (let px = left + 3; px < right - 3; px += 6) pen.fillRect(px, top, Math.min(3, right - 3 - px), 2); }
  if (right - left > 24 && wanted(s.key)) {
    pen.font = `600 11.5px ${theme.sans}`;
    if (!widths.has(s.said)) widths.set(s.said, pen.measureText(s.said).width);
    if (Math.min(right, width) - Math.max(left, 0) > widths.get(s.said) + 14) {
      pen.fillStyle = s.top < 0 ? theme.soft : theme.ink;
      pen.fillText(s.said, Math.max(left, 0) + 6, top + 15);
    }
  }
  if (s.index === shown) {
    pen.strokeStyle = theme.ink;
    pen.lineWidth = 1.5;
    pen.beginPath();
    pen.roundRect(left + 0.75, top + 0.75, Math.max(1, right - left - 1.5), LANE - 1.5, round);
    pen.stroke();
  }
}

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
function ticks() {
  const least = ((view.to - view.from) / Math.max(width, 1)) * 84, by = STEPS_S.find((s) => s >= least) ?? 7200, found = [];
  for (let n = Math.ceil(view.from / by - 1e-9); n * by <= view.to + 1e-9; n++) found.push(n * by);
  return [found, by];
}
function cut(pen, text, most) {
  if (pen.measureText(text).width <= most) return text;
  const letters = [...text], begin = (count) => `${letters.slice(0, count).join("")}\u2026`;
  let low = 0, high = letters.length - 1;
  while (low < high) { const mid = (low + high + 1) >> 1; if (pen.measureText(begin(mid)).width <= most) low = mid; else high = mid - 1; }
  return begin(low);
}
function drawLanes() {
  const [pen, w] = fitted($("lanes"), lanesHeight);
  width = w;
  const [marks, by] = ticks(), far = (view.to - view.from) / width > FAR_S;
  speakers.forEach((name, who) => {
    const top = laneTop(who);
    pen.fillStyle = theme.faint;
    pen.globalAlpha = 0.55;
    pen.beginPath(); pen.roundRect(0, top, width, LANE, 6); pen.fill();
  });
  pen.fillStyle = theme.line;
  pen.globalAlpha = 0.6;
  for (const t of marks) pen.fillRect(Math.round(x(t)), 0, 1, lanesHeight - AXIS);
  pen.globalAlpha = 1;
  speakers.forEach((name, who) => {
    const top = laneTop(who);
    if (far) drawColumns(pen, laneRows[who], view.from, view.to, width, top, LANE, 5, 1);
    else for (const s of between(laneRows[who], view.from, view.to)) drawTurn(pen, s, top);
    pen.font = `600 12.5px ${theme.sans}`;
    pen.fillStyle = theme.ink;
    const short = cut(pen, name, width * 0.7), after = pen.measureText(short).width + 9;
    pen.fillText(short, 1, top - 7);
    pen.font = `12.5px ${theme.sans}`;
    pen.fillStyle = theme.soft;
    pen.fillText(`${Math.round((100 * spoken[who]) / talk)} %`, after, top - 7);
  });
  pen.font = `11.5px ${theme.sans}`;
  pen.fillStyle = theme.soft;
  for (const t of marks) {
    const text = clock(t, by < 1), half = pen.measureText(text).width / 2;
    pen.fillText(text, Math.min(Math.max(Math.round(x(t)) - half, 0), width - 2 * half), lanesHeight - 6);
  }
}

// ---- what lies still: drawn again only when the size, the light or the choice changes ----
function drawStill() {
  const high = Math.max(4, Math.min(14, Math.floor(56 / Math.max(1, speakers.length)))), gap = high > 6 ? 3 : 1;
  const [map, mapWidth] = fitted($("map"), Math.max(1, speakers.length) * (high + gap) + 7);
  laneRows.forEach((lane, who) => drawColumns(map, lane, 0, total, mapWidth, 5 + who * (high + gap), high, 2, 0));
  const [pen, w] = fitted($("rail"), 26);
  pen.fillStyle = theme.faint;
  pen.save(); pen.beginPath(); pen.roundRect(0, 8, w, 10, 5); pen.fill(); pen.clip();
  const wide = 5, each = (total / w) * wide;  // what is felt most in every five pixels
  for (let bin = 0; bin * wide < w; bin++) {
    const sums = new Float32Array(NONE + 1);
    for (const s of between(everyone, bin * each, (bin + 1) * each))
      sums[s.top < 0 ? NONE : s.top] += Math.max(0, Math.min(s.to, (bin + 1) * each) - Math.max(s.from, bin * each));
    const most = sums.indexOf(Math.max(...sums));
    if (!sums[most]) continue;
    pen.globalAlpha = most === NONE ? 1 : (0.35 + 0.65 * Math.min(1, sums[most] / (0.6 * each))) * (wanted(most) ? 1 : 0.12);
    pen.fillStyle = most === NONE ? theme.line : theme.colours[most];
    pen.fillRect(bin * wide, 8, wide, 10);
  }
  pen.restore();
}
