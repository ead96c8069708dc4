/* A slider for each label over networks that were made and judged. */

const PAPER = "the paper's rule";
const contested = data.networks.some((network) => network.points.some((point) => point.way === PAPER));

/** Say whose a network is: where the paper's stand beside ours, or the parent beside its cuts. */
function role(point) {
  if (point.kind === "parent") return "the parent";
  if (point.way === PAPER) return PAPER;
  return contested ? "ours" : "cut";
}

function moveTo(index, place) {
  state.points[index] = place;
  state.network = index;
  changed("sizes", "network");
}

function faders() {
  const list = find("faders");
  data.networks.forEach((network, index) => {
    const id = `size-${index}`;
    const slider = make("input", {
      type: "range", id, min: 0, max: network.points.length - 1, step: 1, value: state.points[index],
    });
    slider.addEventListener("input", () => moveTo(index, Number(slider.value)));
    slider.addEventListener("focus", () => { state.network = index; changed("network"); });
    const row = make("li", { class: "fader" },
      make("label", { for: id }, network.name), slider, make("output", { for: id }));
    row.addEventListener("click", () => { state.network = index; changed("network"); });
    list.append(row);
  });
  const every = find("every-size");
  const most = Math.max(...data.networks.map((network) => network.points.length));
  if (data.networks.length > 1 && most > 1) {
    every.closest(".fader").hidden = false;
    every.max = most - 1;
    every.value = Math.min(...state.points);
    every.addEventListener("input", () => {
      const part = Number(every.value) / (most - 1);
      state.points = data.networks.map((network) => Math.round(part * (network.points.length - 1)));
      changed("sizes");
    });
  }
}

function showFaders() {
  const rows = [...find("faders").children];
  rows.forEach((row, index) => {
    const point = chosen(index);
    const slider = row.querySelector("input");
    slider.value = state.points[index];
    slider.setAttribute("aria-valuetext",
      `${point.way}: ${plural(point.units, "unit")}, ${sized(amount(point))}, ${data.networks[index].measure} ${share(point.balanced_accuracy)}`);
    row.querySelector("output").replaceChildren(
      make("b", {}, sized(amount(point))), make("span", {}, share(point.balanced_accuracy)));
    row.classList.toggle("active", index === state.network);
    row.classList.toggle("paper", role(point) === PAPER);
  });
  const points = data.networks.map((_, index) => chosen(index));
  const known = points.map((point) => point.balanced_accuracy).filter((value) => value !== null);
  const mean = known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  const size = points.reduce((sum, point) => sum + amount(point), 0);
  find("total").textContent = points.length < 2 ? ""
    : `${plural(points.length, "network")}, ${sized(size)}${data.size === "bytes" ? "" : " parameters"} together; mean ${data.networks[0].measure} ${share(mean)}.`;
  find("every-size").nextElementSibling.replaceChildren(make("b", {}, sized(size)), make("span", {}, share(mean)));
}

function fact(name, value, beside = "") {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value, beside ? make("small", {}, beside) : null));
}

function showDetail() {
  const network = data.networks[state.network];
  const point = chosen(state.network);
  const asked = network.points.find((one) => one.kind === "parent");
  const groups = data.parent.units;
  find("detail-title").textContent = `Network for ${called(network.name)}`;
  find("detail-way").textContent = point.kind === "parent"
    ? "The parent itself, asked the same." : `${point.way[0].toUpperCase()}${point.way.slice(1)}.`;
  const file = point.file
    ? make("a", { href: linked(point.file), download: true }, point.bytes === null ? point.file : bytes(point.bytes))
    : point.bytes === null ? "not made" : bytes(point.bytes);
  const beside = (name) => (point === asked ? "" : `parent ${share(asked[name])}`);
  const interval = point.intervals.balanced_accuracy;
  find("detail-facts").replaceChildren(
    fact("units kept", count(point.units), `of ${count(groups)}`),
    fact("parameters", count(point.parameters), `${percent(point.parameters, data.parent.parameters)} of the parent's`),
    fact(".tflite file", file, point.bytes && data.parent.bytes ? `${percent(point.bytes, data.parent.bytes)} of the parent's` : ""),
    fact(network.measure, share(point.balanced_accuracy), interval
      ? [`${100 * network.confidence} % interval ${share(interval[0])} to ${share(interval[1])}`, beside("balanced_accuracy")].filter(Boolean).join("; ")
      : beside("balanced_accuracy")),
    fact("recall", share(point.recall), beside("recall")),
    fact("specificity", share(point.specificity), beside("specificity")),
    fact("AUC", share(point.auc), beside("auc")),
    fact("proof", point.kind === "parent" ? "–" : point.exact ? "exact" : "not proven", point.exact && point.kind !== "parent" ? "cut = masked parent" : ""),
  );
  describe("sizes", `What networks for ${called(network.name)} cost and are worth, each a network that was made: `
    + `${network.points.map((one) => `${one.way} ${sized(amount(one))}, ${share(one.balanced_accuracy)}`).join("; ")}. Click one to choose it.`);
  describe("strip", `Units that this network keeps: ${data.groups.map((group) =>
    `${count(unitsOf(point, group.name).length)} of ${count(group.size)} in ${group.name}`).join(", ")}.`);
}

const pointRows = () => ({
  points: data.networks[state.network].points.map((point, place) => ({
    place, role: role(point), way: point.way, size: amount(point), worth: point.balanced_accuracy,
    chosen: place === state.points[state.network], short: sized(amount(point)),
    told: `${sized(amount(point))}, ${share(point.balanced_accuracy)}`,
  })),
});

const stripRows = () => ({
  strip: data.groups.flatMap((group) => kept(chosen(state.network), group.name).map((stays, unit) => ({
    group: group.name, unit, kept: stays, left: unit / group.size, right: (unit + 1) / group.size,
    told: stays ? "keeps it" : "does without it",
  }))),
});

function startSizes() {
  if (!find("desk")) return;
  faders();
  draw("sizes", "sizes", pointRows, {
    edit(spec) {
      spec.layer[1].encoding.x.title = sizeName;
      const kinds = contested ? ["ours", PAPER, "the parent"] : ["cut", "the parent"];
      const { color, shape } = spec.layer[1].encoding;
      color.scale.domain = shape.scale.domain = kinds;
      if (!contested) for (const scale of [color.scale, shape.scale]) scale.range.splice(1, 1);
      spec.layer[1].encoding.y.title = data.networks[state.network].measure;
      spec.layer[1].encoding.x.axis = { ...spec.layer[1].encoding.x.axis, format: data.size === "bytes" ? "~s" : ",d", tickCount: 4 };
    },
    ready(view) {
      view.addEventListener("click", (_, item) => {
        if (item?.datum && "place" in item.datum) moveTo(state.network, item.datum.place);
      });
    },
  });
  draw("strip", "strip", stripRows);
  const show = () => { showFaders(); showDetail(); refresh("sizes"); refresh("strip"); };
  on(["sizes", "network"], show);
  show();
}
