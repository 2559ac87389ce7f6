// The table of turns: sorted, filtered, and only the rows that can be seen are in the page.
const table = (() => {
  const scroller = $("rows");
  if (!scroller) return { refresh() {}, mark() {}, fit() {} };
  const body = scroller.querySelector("tbody"), before = element("tr", "space"), after = element("tr", "space"), built = new Map();
  const haystacks = segments.map((s) => `${speakers[s.who]} ${s.said} ${s.text ?? ""}`.toLowerCase());
  const keys = { from: (s) => s.from, to: (s) => s.to, who: (s) => s.who, said: (s) => s.said, sure: (s) => s.sure ?? -1 };
  let order = segments.map((_, i) => i), placeOf = new Map(), by = "from", down = false, high = 38, everything = false, current = -1;
  before.setAttribute("aria-hidden", "true");
  after.setAttribute("aria-hidden", "true");
  const inks = (made, k) => { if (k >= 0) { made.style.setProperty("--light", data.colours[k][0]); made.style.setProperty("--dark", data.colours[k][1]); } };

  function build(s, place) {
    const row = element("tr"), from = element("button", "time", clock(s.from, true)), who = element("td", "name", speakers[s.who]);
    row.dataset.turn = s.index;
    row.setAttribute("aria-rowindex", place + 2);
    if (s.index === current) row.setAttribute("aria-current", "true");
    inks(row, s.top);
    from.type = "button";
    from.setAttribute("aria-label", `Play from ${clock(s.from, true)}`);
    if (s.overlap) who.append(" ", element("small", "", "with others"));
    const said = element("td", s.top < 0 ? "quiet" : ""), word = element("span", "emotion");
    word.append(element("i", s.top < 0 ? "dot none" : "dot"), s.said);
    said.append(word);
    if (s.text) { const q = element("q", "", s.text); q.title = s.text; said.append(q); }
    const sure = element("td", "sure");
    if (s.sure !== null) {
      const meter = element("span", "meter"), fill = element("i");
      fill.style.width = `${s.sure}%`;
      meter.append(fill);
      sure.append(meter, `${Math.round(s.sure)} %`);
    }
    const start = element("td");
    start.append(from);
    row.append(start, element("td", "to", clock(s.to, true)), who, said, sure);
    return row;
  }
  function render() {
    const margin = 6, seen = Math.ceil(scroller.clientHeight / high);
    const first = everything ? 0 : Math.max(0, Math.min(Math.floor(scroller.scrollTop / high), order.length - seen) - margin);
    const last = everything ? order.length : Math.min(order.length, first + seen + 2 * margin);
    const focused = document.activeElement?.closest?.("#rows tr[data-turn]");
    const held = focused ? placeOf.get(Number(focused.dataset.turn)) : -1;
    for (const [place, row] of built) if (place < first || place >= last) { row.remove(); built.delete(place); }
    before.firstChild.style.height = `${first * high}px`;
    after.firstChild.style.height = `${(order.length - last) * high}px`;
    let next = after;
    for (let place = last - 1; place >= first; place--) {
      if (!built.has(place)) { const row = build(segments[order[place]], place); built.set(place, row); body.insertBefore(row, next); }
      next = built.get(place);
    }
    if (held >= 0 && !built.has(held)) scroller.focus({ preventScroll: true });
  }
  function refresh() {
    const words = $("search").value.trim().toLowerCase(), who = Number($("speaker").value), of = keys[by];
    const text = by === "who" ? (s) => speakers[s.who] : of;
    order = segments.map((_, i) => i).filter((i) => wanted(segments[i].key) && (who < 0 || segments[i].who === who) && haystacks[i].includes(words));
    order.sort((a, b) => {
      const [p, q] = [text(segments[a]), text(segments[b])];
      return (typeof p === "string" ? p.localeCompare(q) : p - q) * (down ? -1 : 1) || a - b;
    });
    placeOf = new Map(order.map((i, place) => [i, place]));
    for (const row of built.values()) row.remove();
    built.clear();
    scroller.scrollTop = 0;
    scroller.querySelector("table").setAttribute("aria-rowcount", order.length + 1);
    $("count").textContent = order.length === segments.length ? `${segments.length} turn${segments.length === 1 ? "" : "s"}` : `${order.length} of ${segments.length} turns`;
    $("empty").hidden = order.length > 0;
    render();
  }
  function fit() {
    high = parseFloat(getComputedStyle(scroller).getPropertyValue("--row")) || 38;
    for (const row of built.values()) row.remove();
    built.clear();
    render();
  }
  function reveal(place) {
    const head = scroller.querySelector("thead").offsetHeight, top = place * high;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + high + head > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + high + head - scroller.clientHeight;
    render();
  }
  // The row of the turn that is heard; it comes into sight by itself unless somebody reads the table.
  function mark(index, bring) {
    if (index === current) return;
    current = index;
    for (const row of built.values()) row.removeAttribute("aria-current");
    const place = placeOf.get(index);
    if (place === undefined) return;
    if (bring && !scroller.matches(":hover, :focus-within")) reveal(place);
    built.get(place)?.setAttribute("aria-current", "true");
  }

  for (const space of [before, after]) space.append(element("td"));
  for (const space of [before, after]) space.firstChild.colSpan = 5;
  body.append(before, after);
  let due = 0;
  scroller.addEventListener("scroll", () => { if (!due) due = requestAnimationFrame(() => { due = 0; render(); }); }, { passive: true });
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr[data-turn]");
    if (row && !String(getSelection())) seek(segments[Number(row.dataset.turn)].from, true);
  });
  scroller.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: Math.floor(scroller.clientHeight / high) - 2, PageUp: 2 - Math.floor(scroller.clientHeight / high), Home: -1e9, End: 1e9 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("thead")) return;
    const row = event.target.closest("tr[data-turn]"), from = row ? placeOf.get(Number(row.dataset.turn)) : Math.ceil(scroller.scrollTop / high) - 1;
    const place = Math.min(Math.max(from + step, 0), order.length - 1);
    if (place < 0) return;
    event.preventDefault();
    event.stopPropagation();
    reveal(place);
    built.get(place)?.querySelector("button").focus({ preventScroll: true });
  });
  scroller.querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    down = by === button.dataset.by ? !down : button.dataset.by === "sure";
    by = button.dataset.by;
    scroller.querySelectorAll("th").forEach((head) => head.removeAttribute("aria-sort"));
    button.closest("th").setAttribute("aria-sort", down ? "descending" : "ascending");
    refresh();
  }));
  $("search").addEventListener("input", refresh);
  $("speaker").addEventListener("change", refresh);
  addEventListener("beforeprint", () => { everything = true; render(); });
  addEventListener("afterprint", () => { everything = false; render(); });
  return { refresh, mark, fit };
})();
