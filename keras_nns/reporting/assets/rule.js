/* The paper's rule, with its ζ as a slider. */

const ruleGroup = () => data.groups[state.rule.group].name;

/** Say which units of a group the rule keeps for a label, as `above(zeta)` does. */
function ruled(group, label) {
  const scores = data.rule.scores[group][label];
  const held = new Set(data.rule.protected[group]);
  const known = scores.filter((score) => score !== null);
  const most = known.length ? Math.max(...known) : 0;
  const bar = most > 0 ? state.rule.zeta * most : most;
  return scores.map((score, unit) => held.has(unit) || (score !== null && score >= bar));
}

const highest = () => Math.max(0, ...data.rule.scores[ruleGroup()][state.rule.label].filter((score) => score !== null));

const meanRows = () => ({
  means: data.rule.scores[ruleGroup()][state.rule.label].map((score, unit) => ({
    unit, left: unit - 0.4, right: unit + 0.4, score: score ?? 0, held: data.rule.protected[ruleGroup()].includes(unit),
  })),
});

const matrixRows = () => ({
  matrix: data.rule.scores[ruleGroup()].flatMap((scores, label) => {
    const most = Math.max(...scores.map((score) => score ?? 0)) || 1;
    return scores.map((score, unit) => ({
      label: data.labels[label], unit, left: unit - 0.5, right: unit + 0.5,
      share: score === null ? -1 : score / most, held: data.rule.protected[ruleGroup()].includes(unit),
    }));
  }),
});

function showRule() {
  const { label, zeta } = state.rule;
  const group = ruleGroup();
  const masks = data.labels.map((_, i) => ruled(group, i));
  const counts = masks.map((mask) => mask.filter(Boolean).length);
  const size = masks[0].length;
  const union = masks[0].filter((_, unit) => masks.some((mask) => mask[unit])).length;
  const all = data.groups.reduce((sum, one) => sum + ruled(one.name, label).filter(Boolean).length, 0);
  const every = data.groups.reduce((sum, one) => sum + one.size, 0);
  const told = `ζ = ${zeta.toFixed(2)} keeps ${count(counts[label])} of ${count(size)} units of ${group} for ${called(data.labels[label])}, `
    + `${count(all)} of ${count(every)} in all layers. Over the labels it keeps ${count(Math.min(...counts))} to ${count(Math.max(...counts))}; `
    + `together ${count(union)} of ${count(size)}.`;
  find("rule-zeta-value").textContent = zeta.toFixed(2);
  find("rule-told").textContent = told;
  describe("rule", `Mean activation of every unit of ${group} over samples of ${called(data.labels[label])} (Figs. 3 and 4 of the paper). `
    + `Bars that reach the line at ζ times the highest are kept: ${count(counts[label])}.`);
  describe("matrix", `Units of ${group} that the rule keeps for each label (Fig. 5 of the paper): labels down, units across.`);
}

function startRule() {
  if (!find("rule")) return;
  if (!data.rule) return find("rule").replaceChildren(make("p", {}, "The mean activation was not watched, so there is nothing to show."));
  const slider = find("rule-zeta");
  slider.value = state.rule.zeta;
  slider.addEventListener("input", () => { state.rule.zeta = slider.valueAsNumber; changed("rule"); });
  options(find("rule-label"), data.labels, 0, (place) => { state.rule.label = place; showRule(); refresh("rule"); });
  options(find("rule-group"), data.groups.map((group) => group.name), 0, (place) => {
    state.rule.group = place;
    showRule();
    redraw("rule");
    redraw("matrix");
  });
  const across = (layer) => { layer.encoding.x.scale.domain = [-0.5, data.groups[state.rule.group].size - 0.5]; };
  draw("rule", "rule", meanRows, {
    edit: (spec) => across(spec.layer[0]),
    signals: () => ({ zeta: state.rule.zeta, highest: highest() }),
  });
  draw("matrix", "matrix", matrixRows, { edit: across, signals: () => ({ zeta: state.rule.zeta }) });
  on(["rule"], () => {
    showRule();
    for (const id of ["rule", "matrix"]) drawn.get(id).view?.signal("zeta", state.rule.zeta).runAsync();
  });
  showRule();
}
