/* The graph: which boxes and wires there are, where they go, how they look at a step. */

const svg = byId("graph"),
  world = draw("g"),
  view = { x: 0, y: 0, k: 1 };
svg.append(
  draw(
    "defs",
    {},
    draw(
      "pattern",
      { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      draw("rect", { width: 6, height: 6, class: "hatch-ground" }),
      draw("rect", { width: 1.6, height: 6, class: "hatch-line" }),
    ),
    draw(
      "marker",
      {
        id: "arrow",
        viewBox: "0 0 8 8",
        refX: 7,
        refY: 4,
        markerWidth: 7,
        markerHeight: 7,
        orient: "auto-start-reverse",
      },
      draw("path", { d: "M0 0.8 7.5 4 0 7.2z", class: "arrow" }),
    ),
  ),
  world,
);
const collapsed = new Set(DATA.collapsed);
const homes = nodes.map(() => []); // of each node: its groups, outer ones first
groups.forEach((group, g) => group.members.forEach((id) => homes[id].push(g)));
let items = [],
  wires = [],
  focused = null,
  selected = null,
  hot = null,
  matches = null;

/** What stands for a node: the outermost closed group around it, or it itself. */
function standIn(id) {
  const closed = homes[id].find((g) => collapsed.has(g));
  return closed === undefined ? `n${id}` : `g${closed}`;
}

/** A map of one axis that keeps what is occupied as it is and shrinks the empty room between. */
function squeeze(occupied, gap) {
  occupied.sort((a, b) => a[0] - b[0]);
  const merged = [];
  for (const [low, high] of occupied) {
    const last = merged[merged.length - 1];
    if (last && low <= last[1]) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  let shift = merged.length ? merged[0][0] - 16 : 0;
  const knots = merged.map(([low, high], i) => {
    if (i) shift += Math.max(0, low - merged[i - 1][1] - gap);
    return { low, high, shift };
  });
  return (x) => {
    let a = 0,
      b = knots.length;
    while (a < b) {
      const mid = (a + b) >> 1;
      if (knots[mid].low <= x) a = mid + 1;
      else b = mid;
    }
    const knot = knots[a - 1];
    if (!knot) return x - (knots[0]?.shift ?? 0);
    const next = knots[a];
    if (x <= knot.high || !next) return x - knot.shift;
    const before = next.low - knot.high,
      after = Math.min(before, gap);
    return knot.high - knot.shift + (x - knot.high) * (after / before);
  };
}

/** Boxes, wires and open groups as they are now, with coordinates of their own. */
function arrange() {
  const stands = nodes.map((_, id) => standIn(id));
  const boxes = new Map();
  for (const [id, key] of stands.entries()) {
    if (key[0] === "n") boxes.set(key, { key, node: id, members: [id], rect: DATA.boxes[id] });
    else if (!boxes.has(key)) boxes.set(key, closedBox(key, groups[Number(key.slice(1))]));
  }
  const open = groups
    .map((group, g) => ({ ...group, g }))
    .filter(
      ({ members, g }) =>
        (!collapsed.has(g) && stands[members[0]][0] === "n") ||
        (!collapsed.has(g) &&
          !homes[members[0]].slice(0, homes[members[0]].indexOf(g)).some((outer) => collapsed.has(outer))),
    );
  const drawn = new Map();
  for (const [w, wire] of DATA.wires.entries()) {
    const from = stands[wire.start],
      to = stands[wire.end];
    if (from === to) continue;
    const key = from[0] === "g" || to[0] === "g" ? `${from}>${to}` : `w${w}`;
    if (drawn.has(key)) drawn.get(key).wires.push(wire);
    else drawn.set(key, { key, from: boxes.get(from), to: boxes.get(to), wires: [wire], points: wire.points });
  }
  for (const wire of drawn.values()) route(wire);
  const edges = [...boxes.values()].map((box) => box.rect);
  const spans = (axis) => edges.map((r) => [r[axis] - r[axis + 2] / 2, r[axis] + r[axis + 2] / 2]);
  const frames = open.map((group) => group.rectangle);
  const y = squeeze(
    [
      ...spans(1),
      ...frames.flatMap((r) => [
        [r[1], r[1] + 30],
        [r[1] + r[3] - 12, r[1] + r[3]],
      ]),
    ],
    40,
  );
  const x = squeeze(
    [
      ...spans(0),
      ...frames.flatMap((r) => [
        [r[0], r[0] + 1],
        [r[0] + r[2] - 1, r[0] + r[2]],
      ]),
      ...[...drawn.values()].flatMap((wire) => wire.points.slice(1, -1).map((p) => [p[0] - 5, p[0] + 5])),
    ],
    28,
  );
  for (const box of boxes.values()) box.at = [x(box.rect[0]), y(box.rect[1]), box.rect[2], box.rect[3]];
  for (const wire of drawn.values()) wire.path = wire.points.map(([a, b]) => [x(a), y(b)]);
  for (const group of open) {
    const [a, b, w, h] = group.rectangle;
    group.at = [x(a), y(b), x(a + w) - x(a), y(b + h) - y(b)];
  }
  return { boxes: [...boxes.values()], wires: [...drawn.values()], open };
}

function closedBox(key, group) {
  const [x, y, w, h] = group.rectangle,
    inside = new Set(group.members);
  // Over the wires that come and go, so that a chain of closed modules is straight.
  const ends = DATA.wires
    .filter((wire) => inside.has(wire.start) !== inside.has(wire.end))
    .map((wire) => DATA.boxes[inside.has(wire.start) ? wire.start : wire.end][0])
    .sort((a, b) => a - b);
  const width = Math.max(148, Math.min(44 + 7.6 * group.path.length, 260));
  const middle = ends.length ? ends[ends.length >> 1] : x + w / 2;
  const centre = w > width ? clamp(middle, x + width / 2, x + w - width / 2) : x + w / 2;
  return { key, group: Number(key.slice(1)), members: group.members, rect: [centre, y + h / 2, width, 60] };
}

/** Where a wire meets a closed module, it ends at the middle of the box's edge. */
function route(wire) {
  const outside = (p) =>
    [wire.from, wire.to].every(({ group }) => {
      if (group === undefined) return true;
      const [x, y, w, h] = groups[group].rectangle;
      return p[0] <= x || p[0] >= x + w || p[1] <= y || p[1] >= y + h;
    });
  const [first, ...rest] = wire.points,
    last = rest.pop();
  const middle = rest.filter(outside);
  const edge = (box, side) => [box.rect[0], box.rect[1] + (side * box.rect[3]) / 2];
  wire.points = [
    wire.from.group === undefined ? first : edge(wire.from, 1),
    ...middle,
    wire.to.group === undefined ? last : edge(wire.to, -1),
  ];
}

/** A path through points: straight where it can be, else with upright tangents. */
function curve(points) {
  let d = `M${points[0][0]} ${points[0][1]}`;
  for (let i = 1; i < points.length; i++) {
    const [a, b] = points[i - 1],
      [c, e] = points[i],
      mid = (b + e) / 2;
    d += Math.abs(a - c) < 0.6 ? `L${c} ${e}` : `C${a} ${mid} ${c} ${mid} ${c} ${e}`;
  }
  return d;
}

/** The middle of a wire, where its number stands. */
function halfway(points) {
  const long = points.slice(1).map(([x, y], i) => Math.hypot(x - points[i][0], y - points[i][1]));
  let rest = long.reduce((a, b) => a + b, 0) / 2;
  let i = 0;
  while (i + 1 < long.length && rest > long[i]) rest -= long[i++];
  const t = long[i] ? rest / long[i] : 0;
  return [0, 1].map((axis) => points[i][axis] + t * (points[i + 1][axis] - points[i][axis]));
}

function shorten(text, most) {
  if (text.length <= most) return text;
  const tail = Math.ceil((most - 1) * 0.6);
  return `${text.slice(0, most - 1 - tail)}…${text.slice(-tail)}`;
}

function redraw() {
  const { boxes, wires: drawn, open } = arrange();
  const frames = draw("g"),
    lines = draw("g"),
    labels = draw("g"),
    cards = draw("g"),
    chips = draw("g", { id: "chips" });
  items = [];
  for (const group of open) {
    const [x, y, w, h] = group.at;
    frames.append(draw("rect", { class: "frame", x, y, width: w, height: h, rx: 12 }));
    const item = {
      kind: "open",
      group: group.g,
      at: [x + w / 2, y + 14, w, 20],
      members: group.members,
      element: option(`Module ${group.path}, open, ${group.members.length} tensors; Enter closes it`),
    };
    item.element.classList.add("label");
    const text = `▾ ${shorten(group.path, Math.max(6, Math.floor((w - 24) / 6.8)))}`;
    item.element.append(
      draw("rect", { x: x + 4, y: y + 3, width: Math.min(w - 8, 14 + 7 * text.length), height: 19, rx: 6 }),
      draw("text", { x: x + 10, y: y + 16.5 }, text),
    );
    labels.append(item.element);
    listen(item);
    items.push(item);
  }
  for (const box of boxes) {
    const [x, y, w, h] = box.at,
      node = nodes[box.node];
    const item = { ...box, kind: node ? "node" : "closed", element: option("") };
    item.element.setAttribute("transform", `translate(${x - w / 2} ${y - h / 2})`);
    item.element.classList.add("box", node ? (node.op === null ? "leaf" : "result") : "module");
    if (!node) item.element.append(draw("rect", { class: "under", x: 5, y: 5, width: w, height: h, rx: 9 }));
    item.card = draw("rect", { class: "card", width: w, height: h, rx: node && node.op === null ? h / 2 : 9 });
    const name = node ? node.name : groups[box.group].path;
    const second = node
      ? `${node.op ?? "leaf"} · ${shape(arrays[node.value])}`
      : `${plural(box.members.length, "tensor")}`;
    item.third = draw("text", { class: "third", x: w / 2, y: 51 });
    item.element.append(
      item.card,
      draw(
        "text",
        { class: "name", x: w / 2, y: 20 },
        (node ? "" : "▸ ") + shorten(name, Math.floor((w - (node ? 22 : 40)) / 7.3)),
      ),
      draw("text", { class: "second", x: w / 2, y: 36 }, shorten(second, Math.floor((w - 16) / 6.4))),
      item.third,
      draw("title", {}, name),
    );
    cards.append(item.element);
    listen(item);
    items.push(item);
  }
  wires = drawn.map((wire) => {
    const d = curve(wire.path);
    const names = wire.wires
      .map((w) => `${nodes[w.start].name} to ${nodes[w.end].name}`)
      .slice(0, 3)
      .join(", ");
    const item = { ...wire, kind: "wire", at: [...halfway(wire.path), 20, 20], element: option(`Wire from ${names}`) };
    item.line = draw("path", { d, class: "line", "marker-end": "url(#arrow)" });
    item.element.classList.add("wire");
    item.element.append(draw("path", { d, class: "touch" }), item.line);
    lines.append(item.element);
    listen(item);
    return item;
  });
  items.push(...wires);
  items.sort((a, b) => a.at[1] - b.at[1] || a.at[0] - b.at[0]);
  world.replaceChildren(frames, lines, labels, cards, chips);
  focused = items.find((item) => item.kind !== "wire") ?? null;
  focused?.element.setAttribute("tabindex", 0);
  const ends = boxes.map((box) => box.at).concat(open.map(({ at: [x, y, w, h] }) => [x + w / 2, y + h / 2, w, h]));
  const reach = (axis, side) =>
    ends.reduce((m, e) => (side > 0 ? Math.max : Math.min)(m, e[axis] + (side * e[axis + 2]) / 2), -side * Infinity);
  view.bounds = [reach(0, -1), reach(1, -1), reach(0, 1), reach(1, 1)];
  paint();
}

const option = (label) => draw("g", { role: "option", tabindex: -1, "aria-selected": "false", "aria-label": label });

function listen(item) {
  item.element.addEventListener("click", () => {
    if (!view.dragged) {
      focusOn(item, false);
      act(item);
    }
  });
  item.element.addEventListener("focus", () => focusOn(item, false));
  if (item.kind === "node") {
    item.element.addEventListener("focus", () => pointAt(item.node));
    item.element.addEventListener("blur", () => pointAt(null));
    item.element.addEventListener("pointerenter", () => pointAt(item.node));
    item.element.addEventListener("pointerleave", () => pointAt(null));
  }
}

function focusOn(item, move = true) {
  focused?.element.setAttribute("tabindex", -1);
  focused = item;
  item.element.setAttribute("tabindex", 0);
  if (move) {
    bring(item.at);
    item.element.focus({ preventScroll: true });
  }
}

/** What Enter or a click does. */
function act(item, byKey = false) {
  if (item.kind === "open" || item.kind === "closed") {
    if (item.kind === "open") collapsed.add(item.group);
    else collapsed.delete(item.group);
    redraw();
    const same = items.find(
      (other) => other.group === item.group || (other.kind === "node" && item.members.includes(other.node)),
    );
    if (same) focusOn(same);
    byId("words").textContent = `Module ${groups[item.group].path} is ${item.kind === "open" ? "closed" : "open"}.`;
  } else select(item.kind === "node" ? { node: item.node } : { wires: item.wires }, byKey);
}

/** Colours and numbers of everything, at the present tick. */
function paint() {
  const tick = ticks[now];
  const busy = new Set();
  for (const term of termsNow()) busy.add(`${tick.node}:${term.place}`);
  for (const item of items) if (item.card) paintBox(item, tick);
  const chips = byId("chips");
  chips.replaceChildren();
  for (const wire of wires) {
    const own = wire.wires.map((w) => ({ ...w, key: `${w.end}:${w.place}` }));
    const active = own.filter((w) => busy.has(w.key));
    const passed = own.some((w) => (termsOf.get(w.key)?.tick ?? Infinity) <= now);
    const there = own.some((w) => computedAt[w.end] <= now);
    const state = active.length
      ? "active"
      : tick.kind === "forward" && own.some((w) => w.end === tick.node)
        ? "flowing"
        : passed
          ? "passed"
          : there
            ? "there"
            : "ahead";
    const names = `wire ${state}${isSelected(wire) ? " selected" : ""}${matches ? " dim" : ""}`;
    if (wire.painted !== names) {
      wire.painted = names;
      wire.element.setAttribute("class", names);
      wire.line.setAttribute(state === "active" ? "marker-start" : "marker-end", "url(#arrow)");
      wire.line.removeAttribute(state === "active" ? "marker-end" : "marker-start");
      wire.element.setAttribute("aria-selected", String(isSelected(wire)));
    }
    if (active.length) {
      const text = active
        .map((w) => show(sizeOf(termsOf.get(w.key).term.contribution), 3))
        .slice(0, 2)
        .join(", ");
      const width = 12 + 7 * text.length;
      chips.append(
        draw(
          "g",
          { class: "chip", transform: `translate(${wire.at[0]} ${wire.at[1]})` },
          draw("rect", { x: -width / 2, y: -10, width, height: 20, rx: 10 }),
          draw("text", { y: 4 }, text),
        ),
      );
    }
  }
}
const sizeOf = (index) => (arrays[index].shape.length === 0 ? scalar(index) : arrays[index].rms);

function paintBox(item, tick) {
  const done = item.members.some((id) => computedAt[id] <= now && (nodes[id].op !== null || item.kind === "node"));
  const sizes = item.members
    .map(gradientNow)
    .filter((g) => g !== null)
    .map((g) => arrays[g].rms);
  const bad = sizes.find((size) => kindOf(size) === "bad");
  const size = sizes.length ? (bad ?? sizes.reduce((a, b) => Math.max(a, b), 0)) : null;
  const state = size === null ? (done ? "done" : "ahead") : kindOf(size);
  const current = item.members.includes(tick.node);
  const target = termsNow().some((term) => item.members.includes(term.parent));
  const words =
    size === null
      ? done && item.kind === "node"
        ? `value ${brief(nodes[item.node].value)}`
        : ""
      : item.kind === "node"
        ? `∂L ${brief(gradientNow(item.node))}`
        : `∂L up to ${show(size, 3)}`;
  const dim = matches !== null && !item.members.some((id) => matches.has(id));
  const lookNow = [state, words, current, target, isSelected(item), dim].join("|");
  if (item.painted === lookNow) return; // of thousands of boxes a step changes two or three
  item.painted = lookNow;
  const names = item.element.classList;
  for (const name of ["ahead", "done", "zero", "bad", "some"]) names.toggle(name, name === state);
  names.toggle("current", current);
  names.toggle("target", target);
  names.toggle("selected", isSelected(item));
  names.toggle("dim", dim);
  if (state === "some") {
    const c = colour(size);
    item.card.setAttribute("fill", rgb(c));
    names.toggle("light", 0.3 * c[0] + 0.59 * c[1] + 0.11 * c[2] > 110);
  } else {
    item.card.removeAttribute("fill");
    names.remove("light");
  }
  item.third.textContent = words;
  const what =
    item.kind === "node"
      ? `${nodes[item.node].name}, ${nodes[item.node].op ?? "leaf"}, ${shape(arrays[nodes[item.node].value])}`
      : `Module ${groups[item.group].path}, closed, ${item.members.length} tensors; Enter opens it`;
  item.element.setAttribute(
    "aria-label",
    `${what}${words ? `, ${words}` : ""}${state === "ahead" ? ", not computed yet" : ""}`,
  );
  item.element.setAttribute("aria-selected", String(isSelected(item)));
}

function isSelected(item) {
  if (!selected) return false;
  if (item.kind === "wire")
    return (
      Boolean(selected.wires) &&
      item.wires.some((w) => selected.wires.some((s) => s.end === w.end && s.place === w.place))
    );
  return item.kind === "node" && selected.node === item.node;
}

/* Pan and zoom: the world is moved, so that text stays sharp. */
function look() {
  world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
  world.setAttribute("class", view.k < 0.42 ? "far" : "");
}
function zoom(factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
  const k = clamp(view.k * factor, 0.02, 4);
  view.x = x - ((x - view.x) * k) / view.k;
  view.y = y - ((y - view.y) * k) / view.k;
  view.k = k;
  look();
}
function fit(least = 0) {
  const [x0, y0, x1, y1] = view.bounds,
    width = svg.clientWidth,
    height = svg.clientHeight;
  if (!Number.isFinite(x0)) return;
  view.k = clamp(Math.min((width - 32) / (x1 - x0), (height - 32) / (y1 - y0)), Math.max(least, 0.02), 1.25);
  view.x = (width - view.k * (x0 + x1)) / 2;
  const spare = height - view.k * (y1 - y0);
  view.y = (spare > 0 ? spare / 2 : 16) - view.k * y0;
  look();
}
/** Move the view as little as is needed to show a place. */
function bring([x, y, w, h]) {
  const margin = 28,
    width = svg.clientWidth,
    height = svg.clientHeight;
  const shift = (centre, size, length) => {
    const half = Math.min((view.k * size) / 2 + margin, length / 2);
    return Math.max(0, half - centre) - Math.max(0, centre + half - length);
  };
  view.x += shift(view.x + view.k * x, w, width);
  view.y += shift(view.y + view.k * y, h * 2.5, height);
  look();
}
const itemOf = (id) => {
  const key = standIn(id);
  return items.find((item) => item.key === key);
};

const fingers = new Map();
svg.addEventListener("pointerdown", (event) => {
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (fingers.size === 1) {
    view.dragged = false;
    view.from = [event.clientX, event.clientY];
  }
});
addEventListener("pointermove", (event) => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const [dx, dy] = [event.clientX - before[0], event.clientY - before[1]];
  if (Math.hypot(event.clientX - view.from[0], event.clientY - view.from[1]) > 4 || fingers.size > 1)
    view.dragged = true;
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1],
      frame = svg.getBoundingClientRect();
    const reach = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    zoom(
      reach([event.clientX, event.clientY]) / Math.max(reach(before), 1),
      other[0] - frame.left,
      other[1] - frame.top,
    );
  } else if (view.dragged) {
    view.x += dx;
    view.y += dy;
    look();
  }
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
});
for (const type of ["pointerup", "pointercancel"]) addEventListener(type, (event) => fingers.delete(event.pointerId));
svg.addEventListener(
  "wheel",
  (event) => {
    event.preventDefault();
    const frame = svg.getBoundingClientRect();
    zoom(
      Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)),
      event.clientX - frame.left,
      event.clientY - frame.top,
    );
  },
  { passive: false },
);

function fold(all) {
  collapsed.clear();
  if (all) groups.forEach((_, g) => collapsed.add(g));
  redraw();
  fit(0.85);
  bringCurrent();
}

/** Open every module around a node. */
function reveal(id) {
  const closed = homes[id].filter((g) => collapsed.delete(g));
  if (closed.length) redraw();
}
