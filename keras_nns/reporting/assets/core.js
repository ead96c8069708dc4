"use strict";

/* What the page knows, what is chosen on it, and small helpers. Users' names only ever become text. */

const data = JSON.parse(document.getElementById("data").textContent);
const charts = JSON.parse(document.getElementById("charts").textContent);

const find = (id) => document.getElementById(id);

/** Make an element; strings among its children become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const whole = new Intl.NumberFormat("en");
const count = (value) => (value === null ? "–" : whole.format(value));
const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const percent = (part, all) => `${((100 * part) / all).toFixed(1)} %`;
const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
const called = (name) => (/^\d+$/.test(name) ? `label ${name}` : name);
const listed = (names) =>
  names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;

function bytes(value) {
  if (value === null) return "–";
  return value < 1000 ? `${value} B` : `${(value / 1000).toFixed(value < 100000 ? 1 : 0)} kB`;
}

const amount = (point) => point[data.size];
const sized = (value) => (data.size === "bytes" ? bytes(value) : count(value));
const sizeName = data.size === "bytes" ? "file, bytes" : "parameters";

/** Unpack the bits of kept units: one boolean for each unit. */
const unpacked = new Map();
function kept(point, group) {
  const packed = point.kept[group];
  const size = data.groups.find((one) => one.name === group).size;
  const key = `${size}:${packed}`;
  if (!unpacked.has(key)) {
    const raw = atob(packed);
    const bits = Array.from({ length: size }, (_, i) => ((raw.charCodeAt(i >> 3) >> (i & 7)) & 1) === 1);
    unpacked.set(key, bits);
  }
  return unpacked.get(key);
}

const unitsOf = (point, group) => kept(point, group).flatMap((stays, unit) => (stays ? [unit] : []));

const state = {
  network: 0,
  points: data.networks.map((network) => Math.max(0, network.points.findIndex((p) => p.chosen))),
  layer: 0,
  statistic: data.layers.length ? Object.keys(data.layers[0].statistics)[0] : null,
  unit: 0,
  rule: { label: 0, group: 0, zeta: data.rule ? data.rule.zeta : 0.4 },
  pair: data.networks.length > 1 ? [0, 1] : [0, 0],
  figure: "balanced_accuracy",
  cost: data.size,
};

const chosen = (index) => data.networks[index].points[state.points[index]];

const listeners = [];
/** Call a function whenever one of these changes: "sizes", "network", "unit", "rule", "pair", … */
const on = (topics, react) => listeners.push([topics, react]);
function changed(...topics) {
  for (const [wanted, react] of listeners) if (wanted.some((topic) => topics.includes(topic))) react();
}

/** Return the address of a file beside the page. */
const linked = (path) => path.split("/").map(encodeURIComponent).join("/");

/** Fill a select with names, and say what happens when another is chosen. */
function options(select, names, selected, choose) {
  select.replaceChildren(...names.map((name, i) => make("option", { value: i, selected: i === selected }, name)));
  select.addEventListener("change", () => choose(Number(select.value)));
}
