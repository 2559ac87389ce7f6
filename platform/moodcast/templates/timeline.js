// What moves: the sound, the playhead, the part that is shown, pointers and keys.
const stage = $("stage"), lanes = $("lanes"), strip = $("strip"), head = $("head"), pane = $("pane"), audio = $("audio");
const LEAST_S = 2;  // the shortest stretch that can fill the lanes
let now = 0, hover = -1, following = true, shownCell = null;

// ---- sound: base64 after everything else in the file, made ready in slices once the page stands ----
const sound = { slices: [], at: 0, text: null, ready: !data.inside, play: false };
function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}
function decode(most) {
  sound.text ??= $("sound").textContent.trim();
  for (let n = 0; n < most && sound.at < sound.text.length; n++, sound.at += 1 << 22) {
    sound.slices.push(bytesOf(sound.text.slice(sound.at, sound.at + (1 << 22))));
  }
  if (sound.at < sound.text.length) return;
  audio.src = URL.createObjectURL(new Blob(sound.slices, { type: "audio/mpeg" }));
  Object.assign(sound, { ready: true, slices: [], text: null });
  $("sound").remove();
  if (now) audio.currentTime = now;
  if (sound.play) start();
}
const parsed = () => document.readyState !== "loading";
function wake() {
  if (sound.ready) return;
  decode(1);
  if (!sound.ready) setTimeout(wake, 0);
}
if (!sound.ready) { if (parsed()) setTimeout(wake, 0); else document.addEventListener("DOMContentLoaded", () => setTimeout(wake, 30)); }
const playing = () => Boolean(audio) && !audio.paused && !audio.ended;
function start() {
  if (!audio) return;
  if (!sound.ready && parsed()) decode(Infinity);
  sound.play = !sound.ready;
  if (sound.ready) audio.play().catch(() => {});
}
const clamp = (t) => Math.min(Math.max(t, 0), duration);
function seek(t, play = false) {
  now = clamp(t);
  following = true;
  if (audio) {
    if (!sound.ready && parsed()) decode(Infinity);
    if (sound.ready) audio.currentTime = Math.min(now, Math.max(0, duration - 0.01));
    if (play) start();
  }
  reveal(now);
  moved();
}
function toggle() {
  if (!audio) return;
  if (playing()) audio.pause();
  else { if (now >= duration - 0.05) seek(0); start(); }
}

// ---- what is shown ----
let due = 0;
const redraw = () => { due ||= requestAnimationFrame(() => { due = 0; drawLanes(); placePane(); placeHead(); }); };
function show(from, to) {
  const span = Math.min(total, Math.max(Math.min(LEAST_S, total), to - from));
  view.from = Math.min(Math.max(0, from), total - span);
  view.to = view.from + span;
  redraw();
}
const whole = () => view.to - view.from > total - 1e-6;
const zoom = (factor, around = now >= view.from && now <= view.to ? now : (view.from + view.to) / 2) =>
  show(around - (around - view.from) / factor, around + (view.to - around) / factor);
const pan = (seconds) => { if (!whole()) { following = false; show(view.from + seconds, view.to + seconds); } };
const reveal = (t) => { const span = view.to - view.from; if (t < view.from || t > view.to) show(t - 0.1 * span, t + 0.9 * span); };
function placePane() {
  const words = whole() ? "the whole recording" : `${clock(view.from)} to ${clock(view.to)}`;
  pane.classList.toggle("all", whole());
  pane.style.left = `${(100 * view.from) / total}%`;
  pane.style.width = `${(100 * (view.to - view.from)) / total}%`;
  $("part").textContent = words;
  $("over").setAttribute("aria-valuenow", ((view.from + view.to) / 2).toFixed(1));
  $("over").setAttribute("aria-valuetext", words);
  $("fit").disabled = $("out").disabled = whole();
}
function placeHead() {
  const at = x(now), inside = at >= -1 && at <= width + 1;
  head.hidden = !inside;
  head.style.transform = `translateX(${at}px)`;
  head.className = at < 24 ? "left" : at > width - 24 ? "right" : "";
  const text = clock(now, true);
  if (head.firstElementChild.textContent !== text) head.firstElementChild.textContent = text;
  $("back").hidden = inside;
  const share = `${(100 * now) / total}%`;
  $("tick").style.left = share;
  $("spot").style.left = share;
}

// ---- what is heard there ----
const named = (s, rest) => [element("bdi", "", speakers[s.who]), `, ${rest}`];  // a name that runs from right to left leaves the times in their order
const percentOf = (p) => `${Math.round(p)} %`;
function describe(index, t) {
  const s = segments[index], cell = s ? cellAt(s, t) : null;
  if (index === shown && cell === shownCell && s) return;
  const turned = index !== shown, box = $("now"), [who, said, words] = box.querySelector(".what").children;
  shown = index;
  shownCell = cell;
  who.replaceChildren(...(s ? named(s, `${clock(s.from, true)} to ${clock(s.to, true)}${s.overlap ? ", with others" : ""}`) : [clock(t, true)]));
  const answered = s && s.top >= 0, probs = answered && cell ? cell[3] : s ? s.p : [], top = answered ? (cell ? cell[2] : s.top) : -1;
  const fresh = !s && now === 0 && !playing() && segments.length;
  said.replaceChildren(top >= 0 ? classes[top] : s ? s.said : fresh ? (audio ? "Press a turn to hear it" : "Press a turn") : "nobody speaks");
  if (top >= 0) said.append(element("span", "", `${percentOf(probs[top])}${s.cells.length > 1 && top !== s.top ? `, the whole turn ${classes[s.top]}` : ""}`));
  const raw = (answered && cell ? cell[4] : s?.raw) ?? [], notes = Object.entries(s?.notes ?? {}).map(([name, value]) => `${name} ${value}`);
  if (raw.length) { const most = raw.indexOf(Math.max(...raw)); notes.push(`before centring and smoothing ${classes[most]} ${percentOf(raw[most])}`); }
  words.replaceChildren(...(s?.text ? [element("q", "", s.text)] : []), ...(notes.length ? [element("small", "", notes.join(" \u00b7 "))] : []));
  box.querySelectorAll(".bar").forEach((bar, k) => {
    bar.classList.toggle("top", k === top);
    bar.querySelector("i").style.width = `${probs[k] ?? 0}%`;
    bar.querySelector("s").hidden = !raw.length;
    bar.querySelector("s").style.left = `${raw[k] ?? 0}%`;
    bar.querySelector("em").textContent = probs.length ? percentOf(probs[k]) : "";
  });
  if (turned) { table.mark(index, playing() || hover < 0); redraw(); }
}
function moved() {
  const text = clock(now);
  if ($("at").textContent !== text) {
    $("at").textContent = text;
    strip.setAttribute("aria-valuenow", now.toFixed(1));
    strip.setAttribute("aria-valuetext", text);
  }
  if (hover < 0) describe(turnAt(now), now);
  placeHead();
}
function follow() {
  if (audio && sound.ready && audio.currentSrc) now = clamp(audio.currentTime);
  const span = view.to - view.from;
  if (following && !whole() && (now > view.from + 0.9 * span || now < view.from)) show(now - 0.1 * span, now + 0.9 * span);
  moved();
  if (playing()) requestAnimationFrame(follow);
}
const tell = () => { const s = segments[turnAt(now)]; $("told").replaceChildren(...(s ? named(s, `${s.said}, ${clock(s.from)} to ${clock(s.to)}`) : [`${clock(now)}, nobody speaks`])); };

// ---- pointer on the lanes: click to hear, drag to move, pinch or ctrl + wheel to zoom ----
const fingers = new Map();
let grab = null;
const local = (event, on = lanes) => event.clientX - on.getBoundingClientRect().left;
const laneAt = (event) => {
  const y = event.clientY - lanes.getBoundingClientRect().top, who = Math.floor(y / (LABEL + LANE + GAP));
  return who < speakers.length && y >= laneTop(who) ? who : -1;
};
lanes.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, local(event));
  lanes.setPointerCapture(event.pointerId);
  grab = { at: local(event), from: view.from, to: view.to, moved: false };
});
lanes.addEventListener("pointermove", (event) => {
  const at = local(event);
  if (!fingers.has(event.pointerId)) {
    const who = laneAt(event), t = timeAt(at);
    hover = event.pointerType === "mouse" && who >= 0 ? turnAt(t, who) : -1;
    describe(hover >= 0 ? hover : turnAt(now), hover >= 0 ? t : now);
    return;
  }
  const others = [...fingers].filter(([id]) => id !== event.pointerId);
  if (others.length) {
    const other = others[0][1], before = Math.abs(fingers.get(event.pointerId) - other), after = Math.abs(at - other);
    if (before > 8 && after > 8) zoom(after / before, timeAt((at + other) / 2));
    grab.moved = true;
  } else if (grab && (grab.moved || Math.abs(at - grab.at) > 5)) {
    const shift = ((grab.at - at) / width) * (grab.to - grab.from);
    if (!whole()) { grab.moved = true; following = false; stage.classList.add("drag"); show(grab.from + shift, grab.to + shift); }
  }
  fingers.set(event.pointerId, at);
});
function released(event) {
  const clicked = event.type === "pointerup" && grab && !grab.moved && fingers.size === 1;
  fingers.delete(event.pointerId);
  stage.classList.remove("drag");
  if (clicked) seek(timeAt(local(event)), true);
  else if (fingers.size) { const left = [...fingers.values()][0]; grab = { at: left, from: view.from, to: view.to, moved: true }; }
}
lanes.addEventListener("pointerup", released);
lanes.addEventListener("pointercancel", released);
lanes.addEventListener("pointerleave", () => { if (hover >= 0) { hover = -1; describe(turnAt(now), now); } });
stage.addEventListener("wheel", (event) => {
  const lines = event.deltaMode === 1 ? 16 : 1, across = event.deltaX || (event.shiftKey ? event.deltaY : 0);
  if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(Math.exp((-event.deltaY * lines) / 200), timeAt(local(event))); }
  else if (Math.abs(across) >= Math.abs(event.deltaY) && !whole()) { event.preventDefault(); pan(((across * lines) / width) * (view.to - view.from)); }
}, { passive: false });

// ---- the map: drag the part that is shown, or press where it should be ----
const over = $("over");
let hold = null;
over.addEventListener("pointerdown", (event) => {
  const t = (local(event, over) / over.clientWidth) * total, span = view.to - view.from;
  over.setPointerCapture(event.pointerId);
  if (whole()) { const part = Math.max(LEAST_S, Math.min(total / 6, 600)); show(t - part / 2, t + part / 2); }
  else if (t < view.from || t > view.to) show(t - span / 2, t + span / 2);
  hold = t - view.from;
  following = false;
});
over.addEventListener("pointermove", (event) => {
  if (hold === null || !over.hasPointerCapture(event.pointerId)) return;
  const from = (local(event, over) / over.clientWidth) * total - hold;
  show(from, from + view.to - view.from);
});
for (const name of ["pointerup", "pointercancel"]) over.addEventListener(name, () => { hold = null; });

// ---- the strip, the shares over time, the legend, the buttons ----
const scrub = (event) => seek((local(event, strip) / strip.clientWidth) * duration);
strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); scrub(event); });
strip.addEventListener("pointermove", (event) => { if (strip.hasPointerCapture(event.pointerId)) scrub(event); });
document.querySelectorAll(".course").forEach((chart) => {
  const binOf = (event) => Math.min(data.courses[0].length - 1, Math.max(0, Math.floor((local(event, chart) / chart.clientWidth) * data.courses[0].length)));
  const note = chart.parentElement.querySelector(".note"), usual = note.textContent;
  chart.addEventListener("pointermove", (event) => {
    const bin = binOf(event), row = data.courses[Number(chart.dataset.who)][bin];
    const parts = row.map((s, k) => [s, classes[k] ?? "no answer"]).filter(([s]) => s >= 0.05).sort((a, b) => b[0] - a[0]);
    note.textContent = `${clock(bin * data.courseStep)}: ${parts.map(([s, name]) => `${name} ${s < 10 ? s.toFixed(1) : Math.round(s)} s`).join(", ") || "silent"}`;
  });
  chart.addEventListener("pointerleave", () => { note.textContent = usual; });
  chart.addEventListener("click", (event) => seek(binOf(event) * data.courseStep, true));
});
function choose() {
  document.querySelectorAll(".key").forEach((key) => key.setAttribute("aria-pressed", String(chosen.has(Number(key.dataset.key)))));
  $("clear").hidden = !chosen.size;
  document.querySelectorAll(".course [data-key], .share [data-key]").forEach((part) => part.classList.toggle("dim", !wanted(Number(part.dataset.key))));
  drawStill();
  redraw();
  table.refresh();
}
document.querySelectorAll(".key").forEach((key) => key.addEventListener("click", () => {
  const k = Number(key.dataset.key);
  if (!chosen.delete(k)) chosen.add(k);
  choose();
}));
$("clear").onclick = () => { chosen.clear(); choose(); };
$("in").onclick = () => zoom(2);
$("out").onclick = () => zoom(0.5);
$("fit").onclick = () => show(0, total);
$("back").onclick = () => { following = true; reveal(now); };
$("play").onclick = toggle;
const speeds = [1, 1.25, 1.5, 2, 0.75];
$("speed").onclick = () => {
  if (!audio) return;
  audio.playbackRate = speeds[(speeds.indexOf(audio.playbackRate) + 1) % speeds.length];
  $("speed").textContent = `${audio.playbackRate}\u00d7`;
};
const help = $("help"), ask = () => { if (help.open) help.close(); else help.showModal(); };
$("ask").onclick = ask;
$("close").onclick = () => help.close();
help.addEventListener("click", (event) => { if (event.target === help) help.close(); });

// ---- keys ----
function byTurn(step) {
  let i = segments.findIndex((s) => s.from > now + 0.05);
  if (i < 0) i = segments.length;
  if (step < 0) { i -= 1; while (i > 0 && segments[i].from > now - 0.6) i -= 1; }
  if (segments[i]) seek(segments[i].from);
  tell();
}
document.addEventListener("keydown", (event) => {
  const on = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || (on instanceof Element && on.matches("input, select, textarea"))) return;
  if (help.open) { if (event.key === "?") ask(); return; }
  const far = event.shiftKey ? 30 : 5, span = view.to - view.from;
  const does = {
    ArrowLeft: () => seek(now - far), ArrowRight: () => seek(now + far), Home: () => seek(0), End: () => seek(duration),
    "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5), _: () => zoom(0.5), 0: () => show(0, total),
    j: () => byTurn(1), k: () => byTurn(-1), "?": ask, "/": () => $("search")?.focus(), Escape: () => { chosen.clear(); choose(); },
  };
  if (on === stage) Object.assign(does, { ArrowUp: () => byTurn(-1), ArrowDown: () => byTurn(1) });
  if (on === over) Object.assign(does, { ArrowLeft: () => pan(-span / 4), ArrowRight: () => pan(span / 4), Home: () => pan(-total), End: () => pan(total) });
  if (audio && !audio.error && !(on instanceof HTMLButtonElement && on.matches(":focus-visible"))) does[" "] = toggle;  // else Space scrolls
  if (does[event.key]) { event.preventDefault(); does[event.key](); }
});

if (audio) {
  for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => {
    $("play").classList.toggle("on", playing());
    $("play").setAttribute("aria-label", playing() ? "Pause" : "Play");
    follow();
  });
  audio.addEventListener("error", () => { document.querySelector(".player").classList.add("mute"); });
}
const paint = () => { drawStill(); drawLanes(); placePane(); placeHead(); };
new ResizeObserver(() => { paint(); table.fit(); }).observe(stage);
dark.addEventListener("change", () => { readTheme(); paint(); });
document.body.classList.toggle("long", duration > 120);
table.refresh();
paint();
if (duration > 600) show(0, Math.max(120, width * 0.4));
moved();
