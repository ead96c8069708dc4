/* Charts: drawn by Vega when they come near the screen, in the colours of the page's style. */

const PALETTE = ["ink", "soft", "line", "surface", "accent", "warm", "muted", "low", "middle", "high"];
const drawn = new Map();

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function config() {
  const [ink, soft, line] = ["ink", "soft", "line"].map(colour);
  const font = getComputedStyle(document.body).fontFamily;
  return {
    aria: false,
    background: "transparent",
    font,
    view: { stroke: null },
    axis: {
      labelColor: ink, titleColor: soft, titleFontWeight: "normal", labelFontSize: 12, titleFontSize: 12,
      gridColor: line, domainColor: line, tickColor: line, labelLimit: 120,
    },
    legend: { labelColor: ink, titleColor: soft, labelFontSize: 11 },
  };
}

/**
 * Draw a chart when its place is near the screen.
 * @param id Of its place, without "chart-".
 * @param name Of the specification.
 * @param rows Gives its data: rows by name of the data set.
 * @param more edit: changes the specification; signals: gives values of parameters; ready: is given the view.
 */
function draw(id, name, rows, more = {}) {
  const place = find(`chart-${id}`);
  if (!place) return;
  const chart = { id, name, rows, more, place, view: null, wanted: false };
  drawn.set(id, chart);
  new IntersectionObserver((entries, observer) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    chart.wanted = true;
    render(chart);
  }, { rootMargin: "400px" }).observe(place);
}

/** Give rows their height in pixels: Vega-Lite warns of a height in steps beside a width that fits. */
function measure(spec) {
  if (!spec.height.step) return;
  const part = spec.encoding?.y ? spec : spec.layer.find((layer) => layer.encoding?.y);
  const rows = spec.datasets[(part.data ?? spec.data).name];
  spec.height = spec.height.step * new Set(rows.map((row) => row[part.encoding.y.field])).size;
}

async function render(chart) {
  const turn = (chart.turn = (chart.turn ?? 0) + 1);
  const spec = structuredClone(charts[chart.name]);
  spec.datasets = chart.rows();
  const signals = chart.more.signals?.() ?? {};
  for (const param of spec.params) {
    if (PALETTE.includes(param.name)) param.value = colour(param.name);
    if (param.name in signals) param.value = signals[param.name];
  }
  chart.more.edit?.(spec);
  measure(spec);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const renderer = Object.values(spec.datasets).some((rows) => rows.length > 400) ? "canvas" : "svg";
  const made = await vegaEmbed(chart.place, spec, {
    actions: false, ast: true, renderer, config: config(), tooltip: { theme: dark ? "dark" : "light" },
  });
  if (turn !== chart.turn) return made.finalize();
  chart.finalize?.();
  chart.finalize = () => made.finalize();
  chart.view = made.view;
  // Vega gives the place a name of its own.
  name(chart.place, words.get(chart.id));
  chart.place.dataset.drawn = "yes";
  chart.more.ready?.(made.view);
  // What changed while it was drawn.
  refresh(chart.id);
}

/** Bring a chart's data up to date, without drawing it anew. */
function refresh(id) {
  const chart = drawn.get(id);
  if (!chart?.view) return;
  const rows = chart.rows();
  for (const [name, found] of Object.entries(rows)) {
    chart.view.data(name, found);
  }
  for (const [name, value] of Object.entries(chart.more.signals?.() ?? {})) chart.view.signal(name, value);
  chart.view.runAsync();
}

/** Draw a chart anew, where what it is about has changed. */
function redraw(id) {
  const chart = drawn.get(id);
  if (chart?.wanted) render(chart);
}

const words = new Map();

/** Say in words what a chart shows: as its name for those who do not see it, and under it. */
function describe(id, told) {
  const place = find(`chart-${id}`);
  if (!place) return;
  words.set(id, told);
  name(place, told);
  const caption = find(`caption-${id}`);
  if (caption) caption.textContent = told;
}

function name(place, told) {
  place.setAttribute("role", "img");
  place.removeAttribute("aria-roledescription");
  place.setAttribute("aria-label", told);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const id of drawn.keys()) redraw(id);
});
