/* The player, the search, the profile of gradients, keys and buttons; the start. */

/* ---- player ---- */

let timer = null;
const position = () => {
  let i = 0;
  while (i + 1 < stops.length && stops[i + 1] <= now) i++;
  return i;
};

function go(index) {
  now = stops[clamp(index, 0, stops.length - 1)];
  const i = position(),
    slider = byId("slider"),
    words = sentence(ticks[now]);
  slider.value = i;
  slider.setAttribute("aria-valuetext", words);
  byId("count").textContent = `${i} / ${stops.length - 1}`;
  byId("words").textContent = words;
  for (const id of ["first", "back"]) byId(id).setAttribute("aria-disabled", String(i === 0));
  for (const id of ["on", "last"]) byId(id).setAttribute("aria-disabled", String(i === stops.length - 1));
  showFormula();
  paint();
  bringCurrent();
  if (!selected) fillPanel();
  else markReached();
  drawProfile();
  if (i === stops.length - 1) pause();
}
function markReached() {
  if (selected.node === undefined) return;
  byId("panel")
    .querySelectorAll(".sums tr:not(:first-child)")
    .forEach((row, i) => row.classList.toggle("reached", received[selected.node][i].tick <= now));
}
/** Show the boxes of the present step: the one at work last, for if not all fit it counts. */
function bringCurrent() {
  const { node } = ticks[now];
  for (const { parent } of termsNow()) bring(itemOf(parent).at);
  if (node !== undefined) bring(itemOf(node).at);
}
function showFormula() {
  const tick = ticks[now],
    box = byId("formula");
  if (tick.kind === "term") {
    box.replaceChildren(
      ...termsNow().flatMap((term) => {
        const lines = term.numbers === term.formula ? [term.formula] : [term.formula, term.numbers];
        return lines.map((source) => make("div", {}, math(source)));
      }),
    );
  } else if (tick.kind === "forward") {
    const node = nodes[tick.node];
    box.replaceChildren(
      ...(scalarOnly(node) ? [false, true] : [false]).map((n) => make("div", {}, forward(node, { numbers: n }))),
    );
  } else box.replaceChildren();
}
function play() {
  if (timer !== null) return pause();
  if (position() === stops.length - 1) go(0);
  const beat = () => {
    timer = setTimeout(beat, Number(byId("speed").value));
    go(position() + 1);
  };
  byId("words").setAttribute("aria-live", Number(byId("speed").value) < 900 ? "off" : "polite");
  byId("play").classList.add("playing");
  byId("play").setAttribute("aria-label", "Pause");
  timer = setTimeout(beat, still.matches ? Number(byId("speed").value) : 0);
}
function pause() {
  clearTimeout(timer);
  timer = null;
  byId("words").setAttribute("aria-live", "polite");
  byId("play").classList.remove("playing");
  byId("play").setAttribute("aria-label", "Play");
}
function regrain() {
  stops = ticks.map((_, i) => i).filter((i) => byTerm() || ticks[i].kind !== "term" || ticks[i].last);
  byId("slider").max = stops.length - 1;
  const next = stops.findIndex((i) => i >= now);
  go(next < 0 ? stops.length - 1 : next);
}

/* ---- search ---- */

let choice = -1;
function search() {
  const text = byId("search").value.trim().toLowerCase(),
    list = byId("found");
  const at = nodes.map(({ name }) => name.toLowerCase().indexOf(text));
  const rank = (id) => (nodes[id].name.toLowerCase() === text ? 0 : at[id] === 0 ? 1 : 2); // the name itself comes first
  const hits = (text ? [...nodes.keys()] : []).filter((id) => at[id] >= 0).sort((a, b) => rank(a) - rank(b));
  matches = text ? new Set(hits) : null;
  choice = hits.length ? 0 : -1;
  list.replaceChildren(
    ...hits.slice(0, 50).map((id, i) =>
      make(
        "li",
        {
          role: "option",
          id: `hit${i}`,
          "data-node": id,
          on: {
            pointerdown: (event) => {
              event.preventDefault();
              take(id);
            },
          },
        },
        make("span", {}, nodes[id].name),
        make("small", {}, nodes[id].op ?? "leaf"),
      ),
    ),
  );
  if (text)
    list.append(
      make(
        "li",
        { class: "note", role: "presentation" },
        hits.length > 50 ? `and ${hits.length - 50} more` : hits.length ? "" : "Nothing has this in its name.",
      ),
    );
  list.hidden = !text;
  byId("search").setAttribute("aria-expanded", String(Boolean(text)));
  markChoice();
  paint();
}
function markChoice() {
  const options = [...byId("found").querySelectorAll("[role=option]")];
  options.forEach((li, i) => li.setAttribute("aria-selected", String(i === choice)));
  options[choice]?.scrollIntoView({ block: "nearest" });
  if (choice >= 0) byId("search").setAttribute("aria-activedescendant", `hit${choice}`);
  else byId("search").removeAttribute("aria-activedescendant");
}
function take(id) {
  byId("search").value = "";
  search();
  jump(id, true);
}
byId("search").addEventListener("input", search);
byId("search").addEventListener("blur", () => {
  byId("found").hidden = true;
});
byId("search").addEventListener("keydown", (event) => {
  const options = byId("found").querySelectorAll("[role=option]");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    choice = clamp(choice + (event.key === "ArrowDown" ? 1 : -1), 0, options.length - 1);
    markChoice();
  } else if (event.key === "Enter" && options[choice]) take(Number(options[choice].dataset.node));
  else if (event.key === "Escape") {
    byId("search").value = "";
    search();
    focused?.element.focus();
  } else return;
  event.preventDefault();
  event.stopPropagation();
});

/* ---- profile ---- */

const results = nodes.map((_, id) => id).filter((id) => nodes[id].op !== null);
let bars = [],
  chosen = 0,
  profileWidth = 0;
const profile = byId("profile");

function buildProfile() {
  const width = profile.clientWidth,
    height = profile.clientHeight,
    left = 58,
    low = height - 18,
    high = 10;
  profileWidth = width;
  profile.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const at = (log) => low - 8 - onScale(log) * (low - 8 - high);
  const pitch = (width - left - 8) / Math.max(results.length, 1),
    thick = Math.max(1, Math.min(pitch * 0.72, 26));
  const decades = scale.high - scale.low,
    every = Math.max(1, Math.ceil(decades / 4));
  const axis = draw("g", { class: "axis" });
  for (let d = scale.high; d >= scale.low; d -= every) {
    axis.append(
      draw("line", { x1: left, x2: width - 8, y1: at(d), y2: at(d) }),
      draw("text", { x: left - 6, y: at(d) + 4 }, `1e${d}`.replace("-", "−")),
    );
  }
  const group = draw("g");
  bars = results.map((id, i) => {
    const node = nodes[id],
      size = node.grad === null ? null : arrays[node.grad].rms,
      x = left + pitch * (i + 0.5);
    const kind = size === null ? "none" : kindOf(size);
    const y = kind === "some" ? at(Math.log10(size)) : kind === "bad" ? high : low - 8;
    const bar =
      kind === "zero"
        ? draw("circle", { cx: x, cy: low - 5, r: Math.max(1.5, Math.min(thick / 2, 4)) })
        : draw("rect", {
            x: x - thick / 2,
            width: thick,
            y,
            height: kind === "none" ? 1 : low - y,
            rx: Math.min(2, thick / 4),
            fill: kind === "some" ? rgb(colour(size)) : null,
          });
    group.append(bar);
    return { id, bar, kind, x };
  });
  const ends = draw(
    "g",
    { class: "axis ends" },
    draw("text", { x: left, y: height - 3 }, "inputs"),
    draw("text", { x: width - 8, y: height - 3 }, "loss"),
  );
  const cursor = draw("line", { id: "cursor", y1: 2, y2: low });
  const tip = draw("text", { id: "tip", y: 10 });
  profile.replaceChildren(axis, group, ends, cursor, tip);
  drawProfile();
}

function drawProfile() {
  if (!bars.length) return;
  const current = ticks[now].node,
    pointed = hot ?? (document.activeElement === profile ? results[chosen] : (selected?.node ?? current));
  for (const one of bars) {
    const { id, bar, kind } = one;
    const reached = received[id].length > 0 && received[id][received[id].length - 1].tick <= now;
    const names = `bar ${kind}${reached ? "" : " later"}${id === pointed ? " hot" : ""}`;
    if (one.painted !== names) bar.setAttribute("class", (one.painted = names));
  }
  const found = bars.find(({ id }) => id === pointed),
    cursor = byId("cursor"),
    tip = byId("tip");
  cursor.setAttribute("visibility", found ? "visible" : "hidden");
  tip.textContent = found ? profileWords(found.id) : "";
  if (found) {
    cursor.setAttribute("x1", found.x);
    cursor.setAttribute("x2", found.x);
    const right = found.x > profileWidth / 2;
    tip.setAttribute("x", found.x + (right ? -6 : 6));
    tip.setAttribute("text-anchor", right ? "end" : "start");
    profile.setAttribute("aria-valuenow", bars.indexOf(found));
    profile.setAttribute("aria-valuetext", profileWords(found.id));
  }
}
function profileWords(id) {
  const { name, grad } = nodes[id];
  if (grad === null) return `${name}: no gradient`;
  return `${name}: ${arrays[grad].rms === 0 ? "exactly 0" : `RMS ${show(arrays[grad].rms, 3)}`}`;
}
function pointAt(id) {
  hot = id;
  for (const item of items)
    if (item.card) item.element.classList.toggle("hot", id !== null && item.members.includes(id));
  drawProfile();
}
function barAt(event) {
  const x = event.clientX - profile.getBoundingClientRect().left;
  return bars.reduce((best, bar) => (Math.abs(bar.x - x) < Math.abs(best.x - x) ? bar : best), bars[0]);
}
profile.addEventListener("pointermove", (event) => bars.length && pointAt(barAt(event).id));
profile.addEventListener("pointerleave", () => pointAt(null));
profile.addEventListener("click", (event) => {
  if (bars.length) {
    chosen = bars.indexOf(barAt(event));
    jump(results[chosen]);
  }
});
profile.addEventListener("focus", () => {
  if (bars.length) pointAt(results[chosen]);
});
profile.addEventListener("blur", () => pointAt(null));
profile.addEventListener("keydown", (event) => {
  const moves = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowDown: -1,
    ArrowUp: 1,
    PageUp: 10,
    PageDown: -10,
    Home: -Infinity,
    End: Infinity,
  };
  if (!bars.length) return;
  if (event.key in moves) {
    chosen = clamp(chosen + moves[event.key], 0, results.length - 1);
    pointAt(results[chosen]);
    bring(itemOf(results[chosen]).at);
  } else if (event.key === "Enter") jump(results[chosen], true);
  else return;
  event.preventDefault();
  event.stopPropagation();
});

/* ---- keys and buttons ---- */

svg.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && focused) act(focused, true);
  else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const ring = event.shiftKey ? items : items.filter((item) => item.kind !== "wire" || item === focused);
    const next = ring[ring.indexOf(focused) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) focusOn(next);
  } else return;
  event.preventDefault();
});
addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (target.matches("select, input:not([type=range])")) return;
  const scrolls = target.matches(".numbers, #formula") && target.scrollWidth > target.clientWidth;
  const moves = {
    ArrowRight: () => go(position() + 1),
    ArrowLeft: () => go(position() - 1),
    Home: () => go(0),
    End: () => go(stops.length - 1),
  };
  if (event.key in moves) {
    if (scrolls || target.matches("[type=range]")) return; // which move by these keys themselves
    pause();
    moves[event.key]();
  } else if (event.key === " " && !target.matches("button, summary")) play();
  else if (event.key === "/") byId("search").focus();
  else if (event.key === "Escape" && selected) {
    release();
    focused?.element.focus({ preventScroll: true });
  } else if (event.key === "+") zoom(1.25);
  else if (event.key === "-" || event.key === "−") zoom(0.8);
  else if (event.key === "0") fit();
  else return;
  event.preventDefault();
});
const click = (id, f) => byId(id).addEventListener("click", f);
click("first", () => {
  pause();
  go(0);
});
click("back", () => {
  pause();
  go(position() - 1);
});
click("play", play);
click("on", () => {
  pause();
  go(position() + 1);
});
click("last", () => {
  pause();
  go(stops.length - 1);
});
click("larger", () => zoom(1.25));
click("smaller", () => zoom(0.8));
click("fit", () => fit());
click("collapse", () => fold(true));
click("expand", () => fold(false));
byId("slider").addEventListener("input", (event) => {
  pause();
  go(Number(event.target.value));
});
byId("grain").addEventListener("change", regrain);
dark.addEventListener("change", fillPanel);

/* ---- start ---- */

function legend() {
  const bar = draw("svg", { viewBox: "0 0 120 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let i = 0; i < 60; i++)
    bar.append(draw("rect", { x: i * 2, y: 0, width: 2.1, height: 10, fill: rgb(viridis(i / 59)) }));
  const key = (name, text) =>
    make(
      "span",
      { class: "key" },
      draw(
        "svg",
        { viewBox: "0 0 18 12", "aria-hidden": "true", class: `box ${name}` },
        draw("rect", { class: "card", x: 1, y: 1, width: 16, height: 10, rx: 3 }),
      ),
      text,
    );
  byId("legend").append(
    make(
      "span",
      { class: "key" },
      "RMS of ∂L ",
      make("b", {}, `1e${scale.low}`.replace("-", "−")),
      bar,
      make("b", {}, `1e${scale.high}`.replace("-", "−")),
    ),
    key("done", "not reached"),
    key("zero", "exactly 0"),
    key("bad", "not finite"),
  );
}
byId("about").textContent =
  `${nodes[DATA.loss].name} = ${brief(DATA.nodes[DATA.loss].value)}; ${plural(nodes.length, "tensor")}, ${plural(operations, "operation")}`;
document.title = `∂L/∂… of ${nodes[DATA.loss].name}, step by step`;
for (const id of ["collapse", "expand"]) byId(id).hidden = groups.length === 0;
legend();
profile.setAttribute("aria-valuemin", 0);
profile.setAttribute("aria-valuemax", Math.max(results.length - 1, 0));
redraw();
fit(0.85);
buildProfile();
regrain();
new ResizeObserver(() => {
  if (profile.clientWidth !== profileWidth) buildProfile();
}).observe(profile);
document.documentElement.dataset.ready = "true";
