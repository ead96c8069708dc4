/* What two labels share, at the sizes chosen. */

function compared(a, b) {
  const found = { both: 0, either: 0, groups: [] };
  for (const group of data.groups) {
    const [one, other] = [a, b].map((index) => kept(chosen(index), group.name));
    const both = one.flatMap((stays, unit) => (stays && other[unit] ? [unit] : []));
    const only = one.flatMap((stays, unit) => (stays && !other[unit] ? [unit] : []));
    const others = other.flatMap((stays, unit) => (stays && !one[unit] ? [unit] : []));
    found.groups.push({ name: group.name, both, only, others });
    found.both += both.length;
    found.either += both.length + only.length + others.length;
  }
  return found;
}

const jaccard = (found) => (found.either ? found.both / found.either : null);

const pairRows = () => ({
  pairs: data.networks.flatMap((one, a) => data.networks.map((other, b) => {
    const found = compared(a, b);
    const value = jaccard(found);
    return {
      a: one.name, b: other.name, first: a, second: b, value,
      short: data.networks.length > 16 || innerWidth < 500 ? "" : value === null ? "–" : value.toFixed(2),
      told: `${one.name} and ${other.name}: ${count(found.both)} of ${count(found.either)} units`,
      picked: (a === state.pair[0] && b === state.pair[1]) || (a === state.pair[1] && b === state.pair[0]),
    };
  })),
});

const MOST = 40;
const numbers = (units) => (units.length ? `${units.slice(0, MOST).join(", ")}${units.length > MOST ? ` and ${units.length - MOST} more` : ""}` : "none");

function showPair() {
  const [a, b] = state.pair;
  const [one, other] = [a, b].map((index) => called(data.networks[index].name));
  const found = compared(a, b);
  find("overlap-a").value = a;
  find("overlap-b").value = b;
  find("overlap-title").textContent = a === b ? `Units of ${one}` : `${one[0].toUpperCase()}${one.slice(1)} and ${other}`;
  find("overlap-told").replaceChildren(
    make("p", {}, a === b ? `${count(found.both)} units.`
      : `They share ${count(found.both)} of the ${count(found.either)} units that either keeps: ${share(jaccard(found))}.`),
    ...found.groups.map((group) => make("section", {}, make("h5", {}, group.name), make("dl", {},
      ...[["both", group.both], ...(a === b ? [] : [[`${one} only`, group.only], [`${other} only`, group.others]])]
        .flatMap(([name, units]) => [make("dt", {}, `${a === b ? "units" : name} (${units.length})`), make("dd", {}, numbers(units))])))));
}

function startOverlap() {
  const place = find("overlap");
  if (!place) return;
  if (data.networks.length < 2) return place.remove();
  const names = data.networks.map((network) => network.name);
  options(find("overlap-a"), names, state.pair[0], (index) => { state.pair[0] = index; changed("pair"); });
  options(find("overlap-b"), names, state.pair[1], (index) => { state.pair[1] = index; changed("pair"); });
  draw("overlap", "overlap", pairRows, {
    ready(view) {
      view.addEventListener("click", (_, item) => {
        if (item?.datum && "first" in item.datum) { state.pair = [item.datum.first, item.datum.second]; changed("pair"); }
      });
    },
  });
  const show = () => {
    const values = pairRows().pairs.filter((row) => row.first < row.second && row.value !== null);
    const most = values.reduce((best, row) => (row.value > best.value ? row : best), values[0]);
    describe("overlap", `Which labels' networks share units, a square for each two. ${most ? `${called(most.a)} and ${called(most.b)} share most: ${share(most.value)}.` : ""}`);
    showPair();
    refresh("overlap");
  };
  on(["sizes", "pair"], show);
  show();
}
