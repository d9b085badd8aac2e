"use strict";
/* The page of one backward pass, in four files that page.py puts one after the other: this one, the
   graph, the panel, and page.js, which plays. The data is a trace (see trace.py) as page.py writes
   it. All text of the user's goes through textContent: none of it ever becomes markup. */

const DATA = JSON.parse(document.getElementById("data").textContent);
const { nodes, steps, groups, arrays } = DATA;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

/* ---- helpers ---- */

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [type, f] of Object.entries(value)) element.addEventListener(type, f);
    else if (value !== null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const button = (text, act, attributes = {}) =>
  make("button", { type: "button", on: { click: act }, ...attributes }, text);
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

/** A number as it is read: 4 digits, powers of ten where it is very large or small. */
function show(x, digits = 4) {
  if (x === null) return "—";
  x = Number(x); // "NaN" and "Infinity" travel as words
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  const plain = size === 0 || (size >= 1e-3 && size < 1e6);
  const text = plain
    ? String(Number(x.toPrecision(digits)))
    : x
        .toExponential(digits - 1)
        .replace(/\.?0+e/, "e")
        .replace("e+", "e");
  return text.replaceAll("-", "−");
}
const shape = (array) =>
  array.shape.length ? `(${array.shape.join(", ")}${array.shape.length === 1 ? "," : ""})` : "number";

/** MathML that Python wrote. Only MathML's own elements are taken over, and no attribute that acts. */
function math(source) {
  const root = new DOMParser().parseFromString(source, "application/xml").documentElement;
  function copy(from) {
    if (from.nodeType === Node.TEXT_NODE) return document.createTextNode(from.data);
    if (from.nodeType !== Node.ELEMENT_NODE || !/^m[a-z]+$/.test(from.localName)) return null;
    const to = document.createElementNS("http://www.w3.org/1998/Math/MathML", from.localName);
    for (const name of [
      "display",
      "stretchy",
      "fence",
      "separator",
      "form",
      "mathvariant",
      "linethickness",
      "columnalign",
      "lspace",
      "rspace",
    ]) {
      if (from.hasAttribute(name)) to.setAttribute(name, from.getAttribute(name));
    }
    to.append(...[...from.childNodes].map(copy).filter(Boolean));
    return to;
  }
  return copy(root) || document.createTextNode(source);
}

/** name = op(arguments), or with an operator between them; brief: by what the operation calls them. */
function forward(node, { numbers = false, brief = false } = {}) {
  const M = (tag, ...inside) => {
    const element = document.createElementNS("http://www.w3.org/1998/Math/MathML", tag);
    element.append(...inside);
    return element;
  };
  const fence = (sign) => fill(M("mo", sign), { stretchy: "false" }, []);
  const name = (argument) => {
    if (numbers) return M("mn", show(scalar(arrayOf(argument))));
    if (argument.node !== null) return M("mi", brief ? argument.name : nodes[argument.node].name);
    if (argument.array !== null && arrays[argument.array].shape.length === 0)
      return M("mn", show(scalar(argument.array)));
    return M("mi", argument.text ?? argument.name);
  };
  const parts = node.arguments.map(name);
  const left = M("mi", node.name);
  const signs = { "*": "·", "-": "−", "/": "/", "+": "+", "@": "@" };
  const result = numbers ? [M("mo", "="), M("mn", show(scalar(node.value)))] : [];
  if (node.sign in signs && parts.length === 2) {
    return M("math", left, M("mo", "="), parts[0], M("mo", signs[node.sign]), parts[1], ...result);
  }
  const inside = parts.flatMap((part, i) => (i ? [M("mo", ","), part] : [part]));
  for (const [key, value] of node.params) inside.push(M("mo", inside.length ? ";" : ""), M("mtext", `${key}=${value}`));
  return M("math", left, M("mo", "="), M("mi", node.op), fence("("), ...inside, fence(")"), ...result);
}
const arrayOf = (argument) => (argument.node === null ? argument.array : nodes[argument.node].value);
const scalarOnly = (node) =>
  [node.value, ...node.arguments.map(arrayOf)].every((i) => i !== null && arrays[i].shape.length === 0);

/* ---- arrays: numbers, statistics, colours ---- */

const decoded = new Map();
function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}
function numbers(index) {
  if (!decoded.has(index)) {
    const { numbers: text, kind } = arrays[index];
    const { buffer } = bytes(text);
    decoded.set(index, kind === "f4" ? new Float32Array(buffer) : new Float64Array(buffer));
  }
  return decoded.get(index);
}
const scalar = (index) => numbers(index)[0];
const tableSize = ({ shape: s }) => [s.slice(0, -1).reduce((a, b) => a * b, 1), s.length ? s[s.length - 1] : 1];
const isWhole = (array) => {
  const [r, c] = tableSize(array);
  return array.rows === r && array.columns === c;
};
/** In a few words: the number itself, or how large the numbers are. */
const brief = (index) => (arrays[index].shape.length === 0 ? show(scalar(index)) : `RMS ${show(arrays[index].rms)}`);

const VIRIDIS = "440154 482878 3e4a89 31688e 26828e 1f9e89 35b779 6dcd59 b4de2c fde725"
  .split(" ")
  .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
function viridis(t) {
  const x = clamp(t, 0, 1) * (VIRIDIS.length - 1),
    i = Math.min(Math.floor(x), VIRIDIS.length - 2);
  return VIRIDIS[i].map((a, k) => Math.round(a + (VIRIDIS[i + 1][k] - a) * (x - i)));
}
const rgb = (c) => `rgb(${c.join(",")})`;
const kindOf = (size) => (!Number.isFinite(Number(size)) ? "bad" : Number(size) === 0 ? "zero" : "some");

const scale = (() => {
  // whole decades around all gradients that are neither 0 nor infinite
  const logs = nodes
    .filter((n) => n.grad !== null)
    .map((n) => arrays[n.grad].rms)
    .filter((s) => kindOf(s) === "some")
    .map(Math.log10);
  const low = logs.reduce((a, b) => Math.min(a, b), Infinity),
    high = logs.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!logs.length) return { low: -1, high: 0 };
  return { low: Math.min(Math.floor(low), Math.ceil(high) - 1), high: Math.ceil(high) };
})();
const onScale = (log) => (log - scale.low) / (scale.high - scale.low);
const colour = (size) => viridis(onScale(Math.log10(size)));

function diverging(t) {
  // −1 blue, 0 the background, 1 red; told apart by all kinds of eyes
  const middle = dark.matches ? [38, 46, 58] : [247, 246, 243];
  const end = t < 0 ? (dark.matches ? [110, 180, 250] : [33, 102, 172]) : dark.matches ? [255, 140, 90] : [178, 42, 30];
  return middle.map((a, k) => Math.round(a + (end[k] - a) * Math.abs(t)));
}

function heatMap(index, label) {
  const array = arrays[index],
    map = array.heat;
  const rows = map ? map.rows : array.rows,
    columns = map ? map.columns : array.columns;
  const cells = map ? bytes(map.cells) : numbers(index);
  const largest = map ? map.scale : cells.reduce((m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m), 0);
  const at = (k) =>
    map
      ? cells[k] === 255
        ? NaN
        : (cells[k] - 127) / 127
      : Number.isFinite(cells[k])
        ? largest
          ? cells[k] / largest
          : 0
        : NaN;
  const side = clamp(Math.floor(288 / columns), 1, 28),
    height = clamp(Math.floor(288 / rows), rows === 1 ? 18 : 1, 28);
  const canvas = make("canvas", {
    width: columns * side,
    height: rows * height,
    role: "img",
    "aria-label": `${label}: heat map of ${rows} by ${columns} cells`,
  });
  const pen = canvas.getContext("2d");
  for (let k = 0; k < rows * columns; k++) {
    const t = at(k);
    pen.fillStyle = Number.isNaN(t) ? "#d33682" : rgb(diverging(t));
    pen.fillRect((k % columns) * side, Math.floor(k / columns) * height, side, height);
  }
  const bar = draw("svg", { viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (let i = 0; i < 50; i++)
    bar.append(draw("rect", { x: i * 2, y: 0, width: 2.1, height: 6, fill: rgb(diverging((i - 24.5) / 24.5)) }));
  const legend = make(
    "div",
    { class: "scale" },
    make("span", {}, show(-largest, 3)),
    bar,
    make("span", {}, show(largest, 3)),
  );
  const block = [tableSize(array)[0] / rows, tableSize(array)[1] / columns].map((x) => show(x, 2));
  const note =
    block.join() === "1,1"
      ? null
      : make("p", { class: "note" }, `Each cell is the mean of a block of about ${block.join(" × ")} elements.`);
  return make("div", { class: "heat" }, canvas, legend, note);
}

function numberTable(index, label, most = 16) {
  const array = arrays[index],
    values = numbers(index),
    all = tableSize(array);
  const rows = Math.min(array.rows, most),
    columns = Math.min(array.columns, most);
  const head = make(
    "tr",
    {},
    make("td"),
    ...Array.from({ length: columns }, (_, j) => make("th", { scope: "col" }, String(j))),
  );
  const body = Array.from({ length: rows }, (_, i) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, String(i)),
      ...Array.from({ length: columns }, (_, j) => {
        const x = values[i * array.columns + j];
        return make("td", { title: String(x) }, show(x));
      }),
    ),
  );
  const box = make(
    "div",
    { class: "numbers", tabindex: 0, role: "group", "aria-label": `${label}: numbers` },
    make("table", {}, head, ...body),
  );
  const notes = [];
  if (array.shape.length > 2) notes.push(`Shown as ${all[0]} × ${all[1]}: the last axis runs along the rows.`);
  if (rows < all[0] || columns < all[1]) notes.push(`The first ${rows} × ${columns} of ${all[0]} × ${all[1]}.`);
  if (!isWhole(array)) notes.push("The page does not hold the rest: it is cut to keep the file small.");
  const note = make("p", { class: "note" }, notes.join(" "));
  if (most < 64 && (rows < array.rows || columns < array.columns)) {
    note.append(
      " ",
      button(
        `Show ${Math.min(array.rows, 64)} × ${Math.min(array.columns, 64)}`,
        () => {
          const more = numberTable(index, label, 64);
          box.replaceWith(...more);
          note.remove();
          more[0].focus();
        },
        { class: "link" },
      ),
    );
  }
  return notes.length ? [box, note] : [box];
}

function arrayView(index, label) {
  const array = arrays[index];
  const facts = [
    ["shape", shape(array)],
    ["dtype", array.dtype],
  ];
  if (array.shape.length) {
    // of a single number these say nothing new
    facts.push(["RMS", show(array.rms)], ["min", show(array.min)], ["max", show(array.max)]);
    facts.push(["zeros", `${show(100 * array.zeros, 3)} %`]);
  }
  const list = make(
    "dl",
    { class: "facts" },
    ...facts.map(([k, v]) => make("div", {}, make("dt", {}, k), make("dd", {}, v))),
  );
  if (array.shape.includes(0)) return [list, make("p", { class: "note" }, "It has no elements.")];
  if (array.shape.length === 0)
    return [make("p", { class: "scalar", title: String(scalar(index)) }, show(scalar(index), 6)), list];
  return [list, heatMap(index, label), ...numberTable(index, label)];
}

/* ---- steps: what has happened by each tick ---- */

const ticks = [{ kind: "start" }];
const computedAt = nodes.map(() => 0); // tick; leaves are there from the start
const received = nodes.map(() => []); // of each node: {tick, total, step, term}
const termsOf = new Map(); // "consumer:place" -> {step, term}
for (const [id, node] of nodes.entries()) {
  if (node.op !== null) computedAt[id] = ticks.push({ kind: "forward", node: id }) - 1;
}
if (nodes[DATA.loss].grad !== null) {
  received[DATA.loss].push({
    tick: ticks.push({ kind: "seed", node: DATA.loss }) - 1,
    total: nodes[DATA.loss].grad,
    term: null,
  });
}
for (const step of steps) {
  for (const [i, term] of step.terms.entries()) {
    const tick = ticks.push({ kind: "term", node: step.node, step, term, last: i === step.terms.length - 1 }) - 1;
    received[term.parent].push({ tick, total: term.total, step, term });
    termsOf.set(`${step.node}:${term.place}`, { step, term, tick });
  }
}
const operations = nodes.filter((n) => n.op !== null).length;
let now = 0;
let stops = ticks.map((_, i) => i); // ticks at which the player stops

/** The gradient that a node has received by now: the index of an array, or null. */
function gradientNow(id) {
  let total = null;
  for (const event of received[id]) if (event.tick <= now) total = event.total;
  return total;
}

function sentence(tick) {
  const name = (id) => nodes[id].name;
  if (tick.kind === "start") {
    return `Start: ${plural(nodes.length - operations, "leaf").replace("leafs", "leaves")} given (parameters and inputs that need a gradient); nothing is computed yet.`;
  }
  if (tick.kind === "forward") {
    const node = nodes[tick.node];
    return `Forward ${now} of ${operations}: ${node.op} makes ${node.name}, ${shape(arrays[node.value])}, ${brief(node.value)}.`;
  }
  if (tick.kind === "seed")
    return `Backward: begins at ${name(tick.node)}, with ∂L/∂${name(tick.node)} = ${brief(nodes[tick.node].grad)}.`;
  const count = `Backward ${now - operations - 1} of ${ticks.length - operations - 2}`;
  const { step, term } = tick;
  if (!byTerm()) {
    const to = step.terms.map((t) => `${name(t.parent)} (${brief(t.contribution)})`).join(", ");
    return `${count}: ${name(tick.node)} passes its gradient, ${brief(step.upstream)}, on to ${to}.`;
  }
  const shares = received[term.parent].filter((event) => event.term);
  const turn = shares.findIndex((event) => event.term === term) + 1;
  const sum =
    shares.length === 1
      ? "that is all it receives"
      : `${turn} of ${shares.length} contributions; the sum is now ${brief(term.total)}`;
  return `${count}: ${name(tick.node)} passes ${brief(term.contribution)} on to ${name(term.parent)}, its argument ${term.argument}; ${sum}.`;
}
/** The terms that the present step is about. */
const termsNow = () => (ticks[now].kind !== "term" ? [] : byTerm() ? [ticks[now].term] : ticks[now].step.terms);
const byTerm = () => byId("grain").value === "term";
