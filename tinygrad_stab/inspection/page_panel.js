/* The panel: all about one tensor, or about one wire. */

function select(what, moveFocus = false) {
  selected = what;
  paint();
  fillPanel();
  drawProfile();
  if (moveFocus) byId("panel").querySelector("h2")?.focus();
}

/** Show a node wherever it is: opens modules, moves the view. */
function jump(id, moveFocus = false) {
  reveal(id);
  const item = itemOf(id);
  focusOn(item, moveFocus);
  bring(item.at);
  select({ node: id });
}
const link = (id) =>
  button(
    nodes[id].name,
    () => {
      jump(id);
      byId("panel").querySelector("h2").focus();
    },
    { class: "link" },
  );

function fillPanel() {
  const panel = byId("panel");
  const what = selected ?? (ticks[now].node === undefined ? null : { node: ticks[now].node });
  if (!what) {
    panel.replaceChildren(
      make("h2", { tabindex: -1 }, "Details"),
      make(
        "p",
        { class: "note" },
        "Press ▶ or → to begin. Here you see the tensor of each step: its value, its gradient, and where that comes from. Click a box or a wire to keep it here.",
      ),
    );
    return;
  }
  const close = selected
    ? button("×", release, { class: "close", "aria-label": "Let the panel follow the steps" })
    : null;
  panel.replaceChildren(
    ...[close, ...(what.wires ? what.wires.flatMap(wireView) : nodeView(what.node))].filter(Boolean),
  );
}
function release() {
  selected = null;
  paint();
  fillPanel();
  drawProfile();
}
const part = (title, ...children) => make("section", {}, make("h3", {}, title), ...children);

function nodeView(id) {
  const node = nodes[id],
    shown = [make("h2", { tabindex: -1 }, node.name)];
  const inside = node.module ? ` in ${node.module}` : "";
  shown.push(
    make(
      "p",
      { class: "kind" },
      node.op === null ? "a leaf: a parameter, or an input that needs a gradient" : `result of ${node.op}${inside}`,
    ),
  );
  if (node.source)
    shown.push(
      make("div", { class: "source" }, make("code", {}, node.source.code || "…"), make("small", {}, node.source.where)),
    );
  if (node.op !== null) {
    const formula = make("div", { class: "math" }, forward(node, { brief: node.name.length > 10 }));
    if (scalarOnly(node)) formula.append(make("br"), forward(node, { numbers: true }));
    shown.push(part("How it is made", formula, make("ul", {}, ...node.arguments.map(argumentView))));
  }
  shown.push(part("Value", ...arrayView(node.value, `value of ${node.name}`)));
  shown.push(
    part(
      `Gradient ∂L/∂${node.name}`,
      ...(node.grad === null
        ? [make("p", { class: "note" }, "No gradient reaches it.")]
        : arrayView(node.grad, `gradient of ${node.name}`)),
    ),
  );
  if (received[id].some((event) => event.term)) shown.push(part("Where the gradient comes from", sumView(id)));
  const step = steps.find((s) => s.node === id);
  if (step) shown.push(part("What it passes on", ...step.terms.flatMap((term) => termView(step, term))));
  return shown;
}

function argumentView(argument) {
  const line = make("li", {}, make("b", {}, argument.name), " ");
  if (argument.node !== null) line.append(link(argument.node));
  else if (argument.array === null) line.append(`${argument.text}, a constant`);
  else if (arrays[argument.array].shape.length === 0) line.append(`${show(scalar(argument.array))}, a constant`);
  else {
    const details = make("details", {}, make("summary", {}, `a constant ${shape(arrays[argument.array])}`));
    details.addEventListener("toggle", () => details.append(...arrayView(argument.array, argument.name)), {
      once: true,
    });
    line.append(details);
  }
  return line;
}

/** The running sum over the consumers of a node. */
function sumView(id) {
  const rows = received[id].map(({ tick, total, step, term }) =>
    make(
      "tr",
      { class: tick <= now ? "reached" : "" },
      make(
        "td",
        {},
        step
          ? button(nodes[step.node].name, () => select({ wires: [wireOf(step, term)] }, true), { class: "link" })
          : "the start",
      ),
      make("td", {}, term ? term.argument : ""),
      cell(term ? term.contribution : total),
      cell(total),
    ),
  );
  const head = make(
    "tr",
    {},
    ...["through", "as", "contribution", "sum so far"].map((text) => make("th", { scope: "col" }, text)),
  );
  return make(
    "div",
    { class: "numbers", tabindex: 0, role: "group", "aria-label": "Contributions" },
    make("table", { class: "sums" }, head, ...rows),
  );
}
const cell = (index) => make("td", { title: String(sizeOf(index)) }, brief(index));
const wireOf = (step, term) => DATA.wires.find((w) => w.end === step.node && w.place === term.place);

function termView(step, term) {
  return [
    make(
      "p",
      {},
      "to ",
      link(term.parent),
      `, as ${term.argument}: `,
      button(brief(term.contribution), () => select({ wires: [wireOf(step, term)] }, true), {
        class: "link",
        "aria-label": `Contribution to ${nodes[term.parent].name}: ${brief(term.contribution)}`,
      }),
    ),
    formulas(term),
  ];
}
function formulas(term) {
  const box = make("div", { class: "math" }, math(term.formula));
  if (term.numbers !== term.formula) box.append(make("br"), math(term.numbers));
  return box;
}

function wireView(wire) {
  const found = termsOf.get(`${wire.end}:${wire.place}`),
    argument = nodes[wire.end].arguments[wire.place];
  const shown = [
    make("h2", { tabindex: -1 }, `${nodes[wire.start].name} → ${nodes[wire.end].name}`),
    make("p", { class: "kind" }, link(wire.start), ` is the argument ${argument.name} of `, link(wire.end)),
  ];
  if (!found) return [...shown, make("p", { class: "note" }, "No gradient passes here.")];
  const { step, term } = found;
  shown.push(
    part("Contribution: upstream × local derivative", formulas(term), ...arrayView(term.contribution, "contribution")),
  );
  const shares = received[wire.start].filter((event) => event.term).length;
  shown.push(
    part(
      `Sum so far: ∂L/∂${nodes[wire.start].name}${shares > 1 ? ` after ${received[wire.start].filter((e) => e.term).findIndex((e) => e.term === term) + 1} of ${shares}` : ", complete"}`,
      ...arrayView(term.total, "sum so far"),
    ),
  );
  shown.push(part(`Upstream: ∂L/∂${nodes[wire.end].name}`, ...arrayView(step.upstream, "upstream gradient")));
  return shown;
}
