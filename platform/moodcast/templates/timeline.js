"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { duration, classes, segments, speakers } = data;
  const peaks = Uint8Array.from(atob(data.peaks), (c) => c.charCodeAt(0));
  const stage = $("stage"), lanes = $("lanes"), strip = $("strip"), head = $("head"), audio = $("audio");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const total = Math.max(duration, 0.001);
  const LABEL = 22, LANE = 66, NAME = 19, FOOT = 6, GAP = 12, AXIS = 24;  // pixels; NAME is where a turn's emotion is written
  const rowsOf = speakers.map((_, who) => segments.map((s, i) => ({ ...s, index: i })).filter((s) => s.who === who));
  const shares = rowsOf.map((rows) => rows.reduce((sum, s) => sum + s.to - s.from, 0));
  const talk = shares.reduce((a, b) => a + b, 0) || 1;

  let width = 0, view = { from: 0, to: total }, only = -1, now = 0, hover = -1, following = true, shown = -2, shownCell = null;

  // ---- sound ----
  if (audio && $("sound")) {
    const raw = atob($("sound").textContent.trim());
    const bytes = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
    audio.src = URL.createObjectURL(new Blob([bytes], { type: "audio/mpeg" }));
    $("sound").remove();
  }
  const playing = () => Boolean(audio) && !audio.paused && !audio.ended;
  const clamp = (t) => Math.min(Math.max(t, 0), duration);
  const seek = (t, play = false) => {
    now = clamp(t);
    following = true;
    if (audio) {
      audio.currentTime = Math.min(now, Math.max(0, duration - 0.01));
      if (play) audio.play().catch(() => {});
    }
    reveal(now);
    moved();
  };
  const toggle = () => {
    if (!audio) return;
    if (playing()) audio.pause();
    else { if (now >= duration - 0.05) seek(0); audio.play().catch(() => {}); }
  };

  // ---- what is where ----
  const clock = (t, tenths = false) => {
    const whole = tenths ? Math.floor(t * 10 + 1e-6) / 10 : Math.floor(t + 1e-6);
    const h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60, s = whole % 60;
    const sec = (tenths ? s.toFixed(1) : String(s)).padStart(tenths ? 4 : 2, "0");
    return h ? `${h}:${String(m).padStart(2, "0")}:${sec}` : `${m}:${sec}`;
  };
  const x = (t) => ((t - view.from) / (view.to - view.from)) * width;
  const timeAt = (px) => view.from + (px / width) * (view.to - view.from);
  const colour = (k) => data.colours[k][dark.matches ? 1 : 0];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const turnAt = (t, who = -1) => {
    let found = -1;
    for (let i = 0; i < segments.length && segments[i].from <= t; i++)
      if (t < segments[i].to && (who < 0 || segments[i].who === who)) found = i;
    return found;
  };
  const strength = (p) => 0.3 + 0.7 * Math.min(1, Math.max(0, ((p ?? 0) / 100 - 0.15) / 0.7));

  // ---- drawing ----
  function fitted(canvas, height) {
    const scale = devicePixelRatio || 1, w = canvas.clientWidth;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(w * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    return [pen, w];
  }
  function loudness(from, to) {
    if (!peaks.length) return -1;
    let most = 0;
    const last = Math.min(peaks.length - 1, Math.max(Math.floor(from * data.peaksPerS), Math.ceil(to * data.peaksPerS) - 1));
    for (let i = Math.floor(from * data.peaksPerS); i <= last; i++) if (peaks[i] > most) most = peaks[i];
    return most / 255;
  }
  function drawCell(pen, k, p, from, to, left, right, top) {
    const faded = only >= 0 && k !== only ? 0.12 : 1, sure = strength(p) * faded, room = LANE - NAME - FOOT - 4;
    pen.fillStyle = colour(k);
    pen.globalAlpha = peaks.length ? 0.2 * sure + 0.04 : 0.5 * sure;
    pen.fillRect(left, top, right - left, LANE);
    pen.globalAlpha = sure;
    pen.fillRect(left, top + LANE - FOOT, right - left, FOOT);
    if (!peaks.length) return;
    const bar = (px, wide, until) => {
      const high = Math.max(2, Math.pow(loudness(timeAt(px), until), 1.4) * room);
      pen.fillRect(px, top + NAME + (room - high) / 2 + 1, wide, high);
    };
    const each = 4;  // a bar of 2 pixels and as much air
    if (right - left < each) bar(left, Math.max(1, right - left - 1), to);
    else for (let px = Math.ceil(left / each) * each; px + 2 <= right; px += each) bar(px, 2, timeAt(px + each));
  }
  // From far away chunks would be confetti: the turn is drawn as a whole.
  const cellsOf = (s) => (s.top >= 0 && s.cells.length > 1 && x(s.to) - x(s.from) < 5 * s.cells.length ? [[s.from, s.to, s.top, s.p]] : s.cells);
  function drawTurn(pen, s, top) {
    const left = Math.max(-20, x(s.from)), right = Math.min(width + 20, Math.max(x(s.to), x(s.from) + 2));
    pen.save();
    pen.beginPath();
    pen.roundRect(left, top, right - left, LANE, Math.min(6, (right - left) / 2));
    pen.clip();
    if (s.top < 0) {
      pen.strokeStyle = css("--line");
      pen.lineWidth = 2;
      for (let px = left - LANE; px < right; px += 7) { pen.beginPath(); pen.moveTo(px, top + LANE); pen.lineTo(px + LANE, top); pen.stroke(); }
    }
    for (const [from, to, k, probs] of cellsOf(s)) {
      if (to < view.from || from > view.to || k < 0) continue;
      drawCell(pen, k, probs[k], from, to, Math.max(left, x(from)), Math.min(right, x(to)), top);
    }
    pen.restore();
    pen.globalAlpha = 1;
    if (s.overlap) { pen.fillStyle = css("--ink"); for (let px = left + 3; px < right - 3; px += 6) pen.fillRect(px, top, Math.min(3, right - 3 - px), 2); }
    const name = s.top < 0 ? "" : classes[s.top];
    pen.font = `600 11.5px ${css("--sans")}`;
    if (name && right - left > pen.measureText(name).width + 14 && (only < 0 || only === s.top)) {
      pen.fillStyle = css("--ink");
      pen.fillText(name, Math.max(left, 0) + 6, top + 15);
    }
    if (s.index === shown) { pen.strokeStyle = css("--ink"); pen.lineWidth = 1.5; pen.beginPath(); pen.roundRect(left + 0.75, top + 0.75, right - left - 1.5, LANE - 1.5, Math.min(6, (right - left) / 2)); pen.stroke(); }
  }
  function draw() {
    const height = Math.max(1, speakers.length) * (LABEL + LANE + GAP) + AXIS - GAP + 4;
    const [pen, w] = fitted(lanes, height);
    width = w;
    const ink = css("--ink"), soft = css("--soft"), line = css("--line");
    ticks().forEach((t) => { pen.fillStyle = line; pen.globalAlpha = 0.6; pen.fillRect(Math.round(x(t)), 0, 1, height - AXIS); });
    pen.globalAlpha = 1;
    speakers.forEach((name, who) => {
      const top = who * (LABEL + LANE + GAP) + LABEL;
      pen.fillStyle = css("--faint");
      pen.beginPath(); pen.roundRect(0, top, width, LANE, 6); pen.globalAlpha = 0.55; pen.fill(); pen.globalAlpha = 1;
      for (const s of rowsOf[who]) if (s.to >= view.from && s.from <= view.to) drawTurn(pen, s, top);
      pen.font = `600 12.5px ${css("--sans")}`;
      pen.fillStyle = ink;
      pen.fillText(name, 1, top - 7, width * 0.7);
      const after = Math.min(pen.measureText(name).width, width * 0.7) + 9;
      pen.font = `12.5px ${css("--sans")}`;
      pen.fillStyle = soft;
      pen.fillText(`${Math.round((100 * shares[who]) / talk)} %`, after, top - 7);
    });
    pen.font = `11.5px ${css("--sans")}`;
    pen.fillStyle = soft;
    for (const t of ticks()) {
      const text = clock(t, step() < 1), at = Math.round(x(t));
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(at - half, 0), width - 2 * half), height - 6);
    }
    drawStrip();
    placeHead();
  }
  const step = () => {
    const wanted = ((view.to - view.from) / Math.max(width, 1)) * 84;
    return [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600].find((s) => s >= wanted) ?? 7200;
  };
  const ticks = () => {
    const by = step(), found = [];
    for (let n = Math.ceil(view.from / by - 1e-9); n * by <= view.to + 1e-9; n++) found.push(n * by);
    return found;
  };
  function drawStrip() {
    const [pen, w] = fitted(strip, 26);
    const at = (t) => (t / total) * w;
    pen.fillStyle = css("--faint");
    pen.beginPath(); pen.roundRect(0, 8, w, 10, 5); pen.fill(); pen.save(); pen.clip();
    for (const s of segments)
      for (const [from, to, k, probs] of [[s.from, s.to, s.top, s.p]]) {
        pen.globalAlpha = k < 0 ? 0.5 : strength(probs[k]);
        pen.fillStyle = k < 0 ? css("--line") : colour(k);
        pen.fillRect(at(from), 8, Math.max(1, at(to) - at(from)), 10);
      }
    pen.restore();
    if (view.to - view.from < total - 1e-6) { pen.strokeStyle = css("--ink"); pen.lineWidth = 1.5; pen.beginPath(); pen.roundRect(at(view.from) + 0.75, 4.75, Math.max(6, at(view.to) - at(view.from)) - 1.5, 16.5, 5); pen.stroke(); }
    pen.fillStyle = css("--ink");
    pen.beginPath(); pen.roundRect(Math.min(Math.max(at(now) - 1.5, 0), w - 3), 2, 3, 22, 1.5); pen.fill();
  }
  let due = 0;
  const redraw = () => { if (!due) due = requestAnimationFrame(() => { due = 0; draw(); }); };

  // ---- the playhead and what is heard there ----
  function placeHead() {
    const at = x(now), inside = at >= -1 && at <= width + 1;
    head.hidden = !inside;
    head.style.transform = `translateX(${at}px)`;
    head.className = at < 24 ? "left" : at > width - 24 ? "right" : "";
    head.firstElementChild.textContent = clock(now, true);
  }
  function element(tag, name, text) {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const statusWords = { too_short: "too short to say", silence: "silence" };
  function describe(index, t) {
    const s = segments[index];
    const cell = s ? s.cells.find(([from, to]) => t >= from && t < to) ?? s.cells[0] : null;
    if (index === shown && cell === shownCell) return;
    const turned = index !== shown;
    shown = index;
    shownCell = cell;
    const box = $("now"), [who, said, words] = box.querySelector(".what").children;
    who.textContent = s ? `${speakers[s.who]}, ${clock(s.from, true)} to ${clock(s.to, true)}` : clock(t, true);
    const probs = cell ? cell[3] : s ? s.p : [];
    const top = cell ? cell[2] : s ? s.top : -1;
    said.replaceChildren(document.createTextNode(top >= 0 ? classes[top] : s ? statusWords[s.status] ?? "no answer" : "nobody speaks"));
    if (top >= 0) said.append(element("span", "", `${Math.round(probs[top])} %${s.cells.length > 1 && top !== s.top ? `, the whole turn ${classes[s.top]}` : ""}`));
    words.textContent = s && s.text ? s.text : "";
    box.querySelector(".bars").replaceChildren(
      ...classes.map((name, k) => {
        const bar = element("div", probs.length && k === top ? "bar top" : "bar");
        const rail = element("span"), fill = element("i");
        fill.style.cssText = `width:${probs[k] ?? 0}%;background:${colour(k)}`;
        rail.append(fill);
        bar.append(document.createTextNode(name), rail, element("em", "", probs.length ? `${Math.round(probs[k])} %` : ""));
        return bar;
      }),
    );
    document.querySelectorAll("tr[aria-current]").forEach((row) => row.removeAttribute("aria-current"));
    if (index >= 0) document.querySelector(`tr[data-turn="${index}"]`)?.setAttribute("aria-current", "true");
    if (turned) redraw();
  }
  function moved() {
    const time = $("time");
    time.replaceChildren(document.createTextNode(clock(now)), element("span", "", ` / ${clock(duration)}`));
    strip.setAttribute("aria-valuenow", now.toFixed(1));
    strip.setAttribute("aria-valuetext", clock(now));
    if (hover < 0) describe(turnAt(now), now);
    placeHead();
    drawStrip();
  }
  function follow() {
    if (audio) now = clamp(audio.currentTime);
    const span = view.to - view.from;
    if (following && span < total - 1e-6 && (now > view.from + 0.9 * span || now < view.from)) show(now - 0.1 * span, now + 0.9 * span);
    moved();
    if (playing()) requestAnimationFrame(follow);
  }

  // ---- zoom ----
  function show(from, to) {
    const span = Math.min(total, Math.max(Math.min(2, total), to - from));
    const start = Math.min(Math.max(0, from), total - span);
    view = { from: start, to: start + span };
    redraw();
  }
  const zoom = (factor, around = now >= view.from && now <= view.to ? now : (view.from + view.to) / 2) =>
    show(around - (around - view.from) / factor, around + (view.to - around) / factor);
  const reveal = (t) => { const span = view.to - view.from; if (t < view.from || t > view.to) show(t - 0.1 * span, t + 0.9 * span); };
  $("in").onclick = () => zoom(2);
  $("out").onclick = () => zoom(0.5);
  $("fit").onclick = () => show(0, total);

  // ---- pointer on the lanes: click to hear, drag to move, pinch or ctrl + wheel to zoom ----
  const fingers = new Map();
  let grab = null;
  const local = (event) => event.clientX - lanes.getBoundingClientRect().left;
  const laneAt = (event) => {
    const y = event.clientY - lanes.getBoundingClientRect().top, who = Math.floor(y / (LABEL + LANE + GAP));
    return who < speakers.length && y - who * (LABEL + LANE + GAP) >= LABEL ? who : -1;
  };
  lanes.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, local(event));
    lanes.setPointerCapture(event.pointerId);
    grab = { at: local(event), view, moved: false };
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
    } else if (grab.moved || Math.abs(at - grab.at) > 5) {
      const shift = ((grab.at - at) / width) * (grab.view.to - grab.view.from);
      if (grab.view.to - grab.view.from < total) { grab.moved = true; following = false; stage.classList.add("drag"); show(grab.view.from + shift, grab.view.to + shift); }
    }
    fingers.set(event.pointerId, at);
  });
  const released = (event) => {
    const clicked = event.type === "pointerup" && grab && !grab.moved && fingers.size === 1;
    fingers.delete(event.pointerId);
    stage.classList.remove("drag");
    if (clicked) seek(timeAt(local(event)), true);
  };
  lanes.addEventListener("pointerup", released);
  lanes.addEventListener("pointercancel", released);
  lanes.addEventListener("pointerleave", () => { if (hover >= 0) { hover = -1; describe(turnAt(now), now); } });
  lanes.addEventListener("wheel", (event) => {
    if (event.ctrlKey) { event.preventDefault(); zoom(Math.exp(-event.deltaY / 200), timeAt(local(event))); }
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && view.to - view.from < total) {
      event.preventDefault();
      const by = (event.deltaX / width) * (view.to - view.from);
      following = false;
      show(view.from + by, view.to + by);
    }
  }, { passive: false });

  // ---- the strip, the table, the legend, the keys ----
  const scrub = (event) => { const box = strip.getBoundingClientRect(); seek(((event.clientX - box.left) / box.width) * duration); };
  strip.addEventListener("pointerdown", (event) => { strip.setPointerCapture(event.pointerId); scrub(event); });
  strip.addEventListener("pointermove", (event) => { if (strip.hasPointerCapture(event.pointerId)) scrub(event); });
  document.querySelectorAll("tr[data-turn]").forEach((row) => row.addEventListener("click", () => { if (!String(getSelection())) seek(segments[Number(row.dataset.turn)].from, true); }));
  document.querySelectorAll(".key").forEach((key) => key.addEventListener("click", () => {
    const k = Number(key.dataset.class);
    only = only === k ? -1 : k;
    document.querySelectorAll(".key").forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.class) === only)));
    document.querySelectorAll("tr[data-turn]").forEach((row) => row.classList.toggle("dim", only >= 0 && segments[Number(row.dataset.turn)].top !== only));
    redraw();
  }));
  const byTurn = (step) => {
    let i = segments.findIndex((s) => s.from > now + 0.05);
    if (i < 0) i = segments.length;
    if (step < 0) { i -= 1; while (i > 0 && segments[i].from > now - 0.6) i -= 1; }
    if (segments[i]) seek(segments[i].from);
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const on = event.target, pressed = on instanceof HTMLButtonElement && on.matches(":focus-visible");
    const does = { ArrowLeft: () => seek(now - 5), ArrowRight: () => seek(now + 5), "+": () => zoom(2), "=": () => zoom(2), "-": () => zoom(0.5), 0: () => show(0, total), Home: () => seek(0), End: () => seek(duration) };
    if (on === stage) Object.assign(does, { ArrowUp: () => byTurn(-1), ArrowDown: () => byTurn(1) });
    if (!pressed) does[" "] = toggle;
    if ((event.key === "Home" || event.key === "End") && on !== stage && on !== strip) return;
    if (does[event.key]) { event.preventDefault(); does[event.key](); }
  });
  $("play").onclick = toggle;
  const speeds = [1, 1.25, 1.5, 2, 0.75];
  $("speed").onclick = () => {
    if (!audio) return;
    audio.playbackRate = speeds[(speeds.indexOf(audio.playbackRate) + 1) % speeds.length];
    $("speed").textContent = `${audio.playbackRate}\u00d7`;
  };
  if (audio) {
    for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => {
      $("play").classList.toggle("on", playing());
      $("play").setAttribute("aria-label", playing() ? "Pause" : "Play");
      follow();
    });
    audio.addEventListener("error", () => { document.querySelector(".player").classList.add("mute"); });
  }
  new ResizeObserver(redraw).observe(stage);
  dark.addEventListener("change", () => { shown = -2; draw(); moved(); });
  document.body.classList.toggle("long", duration > 120);
  draw();
  if (duration > 600) show(0, Math.max(120, width * 0.4));
  moved();
})();
