/* Figures beside the parent's, costs, weights, files. */

const FIGURES = { balanced_accuracy: "balanced accuracy", recall: "recall", specificity: "specificity", auc: "AUC" };
const COSTS = { bytes: "bytes of .tflite", parameters: "parameters", macs: "multiply-adds" };

const figureRows = () => ({
  figures: data.networks.map((network, index) => {
    const point = chosen(index);
    const asked = network.points.find((one) => one.kind === "parent");
    const interval = point.intervals[state.figure] ?? [null, null];
    return {
      label: network.name, parent: asked[state.figure], network: point[state.figure],
      low: interval[0] ?? point[state.figure], high: interval[1] ?? point[state.figure],
      interval: interval[0] === null ? "–" : `${share(interval[0])} to ${share(interval[1])}`,
    };
  }),
});

const mergedRows = () => ({
  figures: data.merged.rows.map((row) => ({
    label: row.label, parent: row.parent[state.figure], network: row.network[state.figure],
    low: row.network[state.figure], high: row.network[state.figure], interval: "–",
  })),
});

function costRows() {
  const rows = data.networks.map((network, index) => ({ name: network.name, value: chosen(index)[state.cost] }));
  if (data.merged) rows.push({ name: data.merged.name, value: data.merged[state.cost] });
  rows.push({ name: "the parent", value: data.parent[state.cost], parent: true });
  return { costs: rows.filter((row) => row.value !== null).map((row) => ({ parent: false, ...row, told: count(row.value) })) };
}

function startFigures() {
  if (find("figures")) {
    const names = Object.keys(FIGURES);
    options(find("figure-name"), Object.values(FIGURES), 0, (place) => { state.figure = names[place]; changed("figure"); });
    draw("figures", "figures", figureRows);
  }
  if (find("merged") && data.merged) draw("merged", "figures", mergedRows);
  const show = () => {
    const name = FIGURES[state.figure];
    const known = figureRows().figures.filter((row) => row.network !== null);
    const worst = known.reduce((least, row) => (least && least.network <= row.network ? least : row), null);
    if (find("figures")) describe("figures", `${name[0].toUpperCase()}${name.slice(1)} of each label: a ring for the parent, a dot for the network at the size chosen above`
      + `${worst ? `; lowest is ${called(worst.label)} with ${share(worst.network)}` : ""}. A pale bar is the interval, where one was computed.`);
    if (data.merged && find("merged")) describe("merged", `${name[0].toUpperCase()}${name.slice(1)} of each label in the parent (ring) and in the merged network (dot).`);
    refresh("figures");
    refresh("merged");
  };
  on(["sizes", "figure"], show);
  show();
}

function startCosts() {
  const place = find("chart-costs");
  if (!place) return;
  const names = Object.keys(COSTS).filter((name) => data.parent[name] !== null);
  options(find("cost-name"), names.map((name) => COSTS[name]), names.indexOf(state.cost), (at) => { state.cost = names[at]; show(); redraw("costs"); });
  draw("costs", "costs", costRows, {
    edit(spec) {
      // Room for the words behind the longest bar.
      const most = Math.max(...costRows().costs.map((row) => row.value));
      spec.layer[0].encoding.x.scale = { domainMin: 0, domainMax: most * (place.clientWidth < 500 ? 1.35 : 1.12), nice: false };
    },
  });
  const show = () => {
    describe("costs", `${COSTS[state.cost][0].toUpperCase()}${COSTS[state.cost].slice(1)} of each network at the size chosen above, beside the parent's ${count(data.parent[state.cost])}.`);
    refresh("costs");
  };
  on(["sizes"], show);
  show();
}

function startWeights() {
  const place = find("weight-figures");
  if (!place) return;
  const { layers, left_out: more } = data.weights;
  for (const one of layers) {
    const views = [["parent", one.shape, one.parent], ["masked", one.shape, one.masked], ["cut", one.small, one.cut]];
    place.append(make("figure", {}, make("div", { class: "weights" }, ...views.map(([name, [rows, columns], src]) => {
      const words = `${name}: ${count(rows)} × ${count(columns)}`;
      const image = make("img", { src, alt: `Weights of ${one.layer}, ${words}`, width: columns, height: rows });
      image.style.width = `${(100 * columns) / one.shape[1]}%`;
      return make("div", {}, make("p", {}, words), make("div", { class: "frame" }, image));
    })), make("figcaption", {}, `Weights of ${one.layer}: a row for each input, a column for each unit.`)));
  }
  if (more) place.append(make("p", { class: "quiet" }, `${plural(more, "more layer")} ${more === 1 ? "is" : "are"} not drawn.`));
}

function startFiles() {
  const list = find("file-list");
  if (!list) return;
  const link = (path, words) => make("li", {}, make("a", { href: linked(path) }, path), ` ${words}`);
  const files = data.networks.flatMap((network) => network.points.filter((point) => point.file && point.kind === "network")
    .map((point) => link(point.file, `${bytes(point.bytes)}, ${called(network.name)}: ${point.way}`)));
  if (data.merged?.file) files.push(link(data.merged.file, `${bytes(data.merged.bytes)}, the merged network`));
  if (data.parent.file) files.push(link(data.parent.file, `${bytes(data.parent.bytes)}, the parent`));
  list.replaceChildren(link("report.md", "this page as Markdown, with still pictures"), ...files);
}
