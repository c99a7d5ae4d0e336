// The front beside the first table: task, cost and budget are the reader's choice. Vega draws the
// specification that the page brings. Without JavaScript the picture that is already there stays.
"use strict";
(() => {
  const block = document.getElementById("front-data");
  const specs = JSON.parse(block.textContent);
  const live = document.getElementById("front-live");
  const still = document.getElementById("front-still");
  const title = document.getElementById("front-title");
  const [task, select, slide, number, unit, chart, said] =
    ["task", "axis", "slide", "number", "unit", "chart", "said"]
      .map((name) => live.querySelector(`[data-part="${name}"]`));
  let spec, costs, budget = null, view = null, drawn = 0;

  const points = () => spec.data.values;
  const scale = (value) => (spec.usermeta.log ? Math.log(value) : value);
  const back = (value) => (spec.usermeta.log ? Math.exp(value) : value);
  const named = (value) => `${value}${spec.usermeta.unit ? ` ${spec.usermeta.unit}` : ""}`;
  const limit = () => (budget === null ? Number.MAX_VALUE : budget);

  function tell() {
    said.classList.toggle("hint", budget === null);
    slide.setAttribute("aria-valuetext", budget === null ? "no budget" : named(budget));
    if (budget === null) {
      said.textContent = "No budget: move the slider, or write a number, and what costs more turns grey.";
      return;
    }
    const fit = points().filter((p) => p.cost <= budget);
    const best = fit.reduce((a, b) => (a === null || b.score > a.score ? b : a), null);
    said.textContent = `${fit.length} of ${points().length} fit into ${named(budget)} of ${spec.usermeta.axis}` +
      (best ? `; the highest of them by the estimate is ${best.name}, ${best.score_text}.` : ".");
  }

  async function draw() {
    drawn = chart.clientWidth;
    const sized = {
      ...spec, background: null, width: Math.max(120, drawn - spec.usermeta.names - 50),
      params: [{ name: "budget", value: limit() }],
    };
    // `ast`: expressions are interpreted, since the page's policy forbids eval.
    const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false };
    if (view) view.finalize();
    view = (await window.vegaEmbed(chart, sized, options)).view;
    view.addEventListener("click", (event, item) => {
      if (item && item.datum && item.datum.row !== undefined) location.hash = `point-${Number(task.value) + 1}-${item.datum.row}`;
    });
    chart.querySelector("svg").setAttribute("aria-hidden", "true");
  }

  function set(value) {
    budget = value;
    tell();
    if (view) view.signal("budget", limit()).runAsync();
  }

  function turn() {
    spec = specs[task.value][select.selectedIndex];
    costs = spec.layer[spec.layer.length - 1].encoding.x.scale.domain;
    const place = specs.length > 1 ? `, ${task.selectedOptions[0].text}` : "";
    title.textContent = `Score over ${spec.usermeta.axis}${spec.usermeta.log ? " (logarithmic)" : ""}${place}`;
    unit.textContent = spec.usermeta.unit ? `, ${spec.usermeta.unit}` : "";
    budget = null;
    slide.value = 1000;
    number.value = "";
    tell();
  }

  function list() {
    select.replaceChildren(...specs[task.value].map((one) => new Option(one.usermeta.axis)));
    turn();
  }

  task.addEventListener("change", () => { list(); draw(); });
  select.addEventListener("change", () => { turn(); draw(); });
  slide.addEventListener("input", () => {
    const at = Number(slide.value), [low, high] = costs.map(scale);
    if (at >= 1000) { number.value = ""; set(null); return; }
    number.value = Number(back(low + at / 1000 * (high - low)).toPrecision(3));
    set(Number(number.value));
  });
  number.addEventListener("input", () => {
    const value = number.value === "" ? NaN : Number(number.value), [low, high] = costs.map(scale);
    if (!(value >= 0)) { slide.value = 1000; set(null); return; }
    slide.value = value > 0 ? Math.max(0, Math.min(999, 1000 * (scale(value) - low) / (high - low))) : 0;
    set(value);
  });
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (chart.clientWidth && chart.clientWidth !== drawn) draw(); }, 150);
  });

  live.hidden = false;
  list();
  draw().then(() => { still.hidden = true; }, (error) => {
    live.hidden = true;
    throw error;
  });
})();
