/* The map of units: hover, tap or type one, and see who uses it and what excites it. */

const layerNow = () => data.layers[state.layer];
const valuesNow = () => layerNow().statistics[state.statistic].values;
const groupUnit = (layer, unit) => (layer.units ? layer.units[unit] : unit);

/** Names of the labels whose networks keep a unit, at the sizes chosen. */
function users(layer, unit) {
  if (layer.group === null) return null;
  return data.networks.flatMap((network, index) =>
    kept(chosen(index), layer.group)[groupUnit(layer, unit)] ? [network.name] : []);
}

const cellRows = () => ({
  cells: valuesNow().flatMap((row, label) => row.map((value, unit) => ({
    label: data.labels[label], unit, left: unit - 0.5, right: unit + 0.5, value,
  }))),
  kept: keptRows(),
  cursor: cursorRows(),
});

function keptRows() {
  const layer = layerNow();
  if (layer.group === null) return [];
  return data.networks.flatMap((network, index) => {
    const stays = kept(chosen(index), layer.group);
    return network.labels.filter((label) => data.labels.includes(label)).flatMap((label) =>
      valuesNow()[0].flatMap((_, unit) => (stays[groupUnit(layer, unit)] ? [{ label, unit }] : [])));
  });
}

const cursorRows = () => [{ left: state.unit - 0.5, right: state.unit + 0.5 }];

function tile(number) {
  const { width, height, columns, count: all, src, labels } = data.tiles;
  const scale = 64 / Math.max(width, height);
  const rows = Math.ceil(all / columns);
  const label = labels[number];
  const box = make("span", { class: "tile", role: "img", "aria-label": label ? `a sample of ${called(label)}` : "a sample" });
  Object.assign(box.style, {
    width: `${width * scale}px`, height: `${height * scale}px`, backgroundImage: `url(${src})`,
    backgroundSize: `${columns * width * scale}px ${rows * height * scale}px`,
    backgroundPosition: `-${(number % columns) * width * scale}px -${Math.floor(number / columns) * height * scale}px`,
  });
  return make("figure", {}, box, make("figcaption", {}, label));
}

function showUnit() {
  const layer = layerNow();
  const statistic = layer.statistics[state.statistic];
  find("unit-number").value = state.unit;
  find("unit-title").textContent = `Unit ${state.unit} of ${layer.name}`;
  const using = users(layer, state.unit);
  find("unit-users").replaceChildren(
    using === null ? make("p", {}, "It cannot be removed: every network keeps it.")
      : using.length === 0 ? make("p", {}, "No network keeps it at the sizes chosen.")
        : make("div", {}, make("p", {}, `${plural(using.length, "network")} of ${data.networks.length} keep${using.length === 1 ? "s" : ""} it:`),
          make("ul", { class: "chips" }, ...using.map((name) => make("li", {}, name)))));
  const shown = data.tiles?.units[layer.name]?.[state.unit];
  find("unit-samples").replaceChildren(...(shown === undefined
    ? [make("p", { class: "quiet" }, data.tiles ? "They are not in the page." : "The data are no images that the page can show.")]
    : shown.length ? shown.map(tile) : [make("p", { class: "quiet" }, "Of the samples looked at, none raises it above zero.")]));
  const values = statistic.values.map((row) => row[state.unit]);
  const most = Math.max(...values.map((value) => Math.abs(value ?? 0))) || 1;
  find("unit-bars-title").textContent = `${statistic.words[0].toUpperCase()}${statistic.words.slice(1)}`;
  find("unit-bars").replaceChildren(...data.labels.map((label, i) => {
    const bar = make("span", { class: "bar" }, make("span", {}));
    bar.firstChild.style.width = `${(100 * Math.abs(values[i] ?? 0)) / most}%`;
    return make("li", { class: using?.includes(label) ? "used" : "" },
      make("span", { class: "name" }, label), bar, make("span", { class: "value" }, values[i] === null ? "–" : values[i].toPrecision(3)));
  }));
}

function pick(unit) {
  const last = valuesNow()[0].length - 1;
  const next = Math.min(Math.max(Math.round(unit), 0), last);
  if (!Number.isFinite(next) || next === state.unit) return;
  state.unit = next;
  changed("unit");
}

function describeUnits() {
  const layer = layerNow();
  const words = layer.statistics[state.statistic].words;
  describe("units", `${words[0].toUpperCase()}${words.slice(1)} of ${layer.name}: labels down, ${count(valuesNow()[0].length)} units across. `
    + "Strong columns are units that answer to many labels. A dot stands where the label's network keeps the unit. Hover or tap a unit, or type its number.");
}

function startUnits() {
  if (!find("unit-map") || !data.layers.length) return find("unit-map")?.remove();
  const another = () => {
    state.unit = Math.min(state.unit, valuesNow()[0].length - 1);
    find("unit-number").max = valuesNow()[0].length - 1;
    describeUnits();
    redraw("units");
    showUnit();
  };
  options(find("unit-layer"), data.layers.map((layer) => layer.name), 0, (place) => { state.layer = place; another(); });
  const names = Object.keys(layerNow().statistics);
  options(find("unit-statistic"), names.map((name) => layerNow().statistics[name].words), 0, (place) => { state.statistic = names[place]; another(); });
  find("unit-number").addEventListener("input", (event) => pick(event.target.valueAsNumber));
  draw("units", "units", cellRows, {
    edit(spec) {
      const signed = valuesNow().some((row) => row.some((value) => value < 0));
      const scale = spec.layer[0].encoding.color.scale;
      if (signed) Object.assign(scale, { domainMid: 0, range: ["warm", "surface", "accent"].map((name) => ({ expr: name })) });
      spec.layer[0].encoding.x.title = `unit of ${layerNow().name}`;
      spec.layer[0].encoding.x.scale.domain = [-0.5, valuesNow()[0].length - 0.5];
    },
    ready(view) {
      // Which unit is meant is where the pointer stands, on whatever mark.
      const over = (event) => {
        const rect = view.container().querySelector("canvas, svg").getBoundingClientRect();
        const x = event.clientX - rect.left - view.origin()[0];
        if (x >= 0 && x <= view.width()) pick(view.scale("x").invert(x));
      };
      view.addEventListener("mousemove", over);
      view.addEventListener("click", over);
    },
  });
  on(["unit"], () => { showUnit(); drawn.get("units").view?.data("cursor", cursorRows()).runAsync(); });
  on(["sizes"], () => { showUnit(); drawn.get("units").view?.data("kept", keptRows()).runAsync(); });
  find("unit-number").max = valuesNow()[0].length - 1;
  describeUnits();
  showUnit();
}
