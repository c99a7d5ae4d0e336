// The front, drawn by Vega: which cost, and what fits into a budget, are the reader's choice.
// Without JavaScript, or where this stops, the picture that is already in the page stays.
"use strict";
(() => {
  const LEFT = 46, TOP = 12, BELOW = 46, LETTER = 6.8;
  // Below this many pixels numbers stand beside the points, and the names in the list under them.
  const NARROW = 560, NUMBERS = 26;
  const colour = (name) => `var(--${name})`;

  // Names come from data: they are text nodes and attributes here, never markup or expressions.
  // A cut name keeps both ends: the method and what tells its model from the others.
  const cut = (text, most) => {
    if (text.length <= most) return text;
    const kept = Math.max(most - 1, 2), head = Math.ceil(kept / 2);
    return `${text.slice(0, head)}…${text.slice(text.length - (kept - head))}`;
  };

  function spec(axis, budget, width, room, narrow) {
    // The places in the list: from above, as the labels stand.
    const points = listed(axis).map((p, place) => ({ ...p, place, number: String(place + 1) }));
    const end = axis.costs[1];
    const steps = axis.points.filter((p) => p.front).map((p) => ({ cost: p.cost, score: p.score }));
    if (steps.length) steps.push({ cost: end, score: steps[steps.length - 1].score });
    const digits = (axis.ticks[0][1].split(".")[1] || "").length;
    // On a logarithmic axis costs of 0 stand at a place of their own, and its label says so.
    const powers = (from) => (from > end ? [] : [from, ...powers(10 * from)]);
    const ticks = axis.zero === null ? {}
      : { values: [axis.zero, ...powers(10 * axis.zero)], labelExpr: `datum.value < ${2 * axis.zero} ? "0" : datum.label` };
    const x = {
      field: "cost", type: "quantitative",
      title: axis.title + (axis.unit ? `, ${axis.unit}` : ""),
      scale: { ...(axis.log ? { type: "log" } : { type: "linear", zero: false }), domain: axis.costs, nice: false, clamp: true },
      axis: { grid: false, tickCount: 5, labelFlush: true, labelOverlap: "greedy", format: "~r", ...ticks },
    };
    const y = {
      field: "score", type: "quantitative", title: null,
      scale: { domain: axis.scores, nice: false, zero: false },
      axis: { values: axis.ticks.map((t) => t[0]), format: `.${digits}f` },
    };
    const opacity = { condition: { test: "datum.cost > budget", value: 0.3 }, value: 1 };
    const edge = { value: width };
    const layer = [
      { data: { values: [{}] }, transform: [{ calculate: "min(budget, " + end + ")", as: "from" }, { calculate: String(end), as: "to" }],
        mark: { type: "rect", fill: colour("faint") }, encoding: { x: { field: "from", type: "quantitative", scale: x.scale }, x2: { field: "to" } } },
      { data: { values: [{}] }, transform: [{ calculate: "budget", as: "from" }, { filter: "datum.from < " + end }],
        mark: { type: "rule", stroke: colour("soft"), strokeDash: [4, 3] }, encoding: { x: { field: "from", type: "quantitative" } } },
      { data: { values: steps }, mark: { type: "line", interpolate: "step-after", stroke: colour("above"), strokeWidth: 1.5, strokeDash: [2, 3] },
        encoding: { x, y } },
      { mark: { type: "rule", stroke: colour("rule") },
        encoding: { x, y, x2: edge, y2: { field: "label" }, opacity } },
      { mark: { type: "rule", stroke: colour("ink"), strokeWidth: 1.25 },
        encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, opacity } },
      { mark: { type: "circle", size: 75, opacity: 1, strokeWidth: 2 },
        encoding: { x, y, opacity,
          fill: { condition: { test: "datum.front", value: colour("above") }, value: colour("page") },
          stroke: { condition: { test: "datum.front", value: colour("above") }, value: colour("baseline") } } },
      { mark: { type: "circle", size: 260, fill: null, stroke: colour("ink"), strokeWidth: 2.5 },
        encoding: { x, y, opacity: { condition: { test: "datum.place === chosen", value: 1 }, value: 0 } } },
      { mark: { type: "circle", size: 900, opacity: 0 },
        encoding: { x, y, tooltip: { field: "description", type: "nominal" } } },
    ];
    if (narrow) {
      layer.push({ mark: { type: "text", align: "left", dx: 6, fontSize: 12, fill: colour("text") },
        encoding: { x: edge, y: { ...y, field: "label" }, text: { field: "number" }, opacity } });
    }
    return {
      $schema: "https://vega.github.io/schema/vega-lite/v6.json",
      width, height: axis.height, autosize: "none", background: null,
      padding: { left: LEFT, right: room, top: TOP, bottom: BELOW },
      params: [{ name: "budget", value: budget }, { name: "chosen", value: -1 }],
      data: { values: points }, layer,
      config: {
        aria: false, view: { stroke: null }, font: "system-ui, sans-serif",
        axis: { labelColor: colour("soft"), titleColor: colour("soft"), gridColor: colour("rule"),
          domainColor: colour("soft"), tickColor: colour("soft"), titleFontWeight: "normal",
          labelFontSize: 11, titleFontSize: 12 },
        axisY: { domain: false, ticks: false },
      },
    };
  }

  const listed = (axis) => [...axis.points].sort((a, b) => b.label - a.label);

  function start(block) {
    const { axes } = JSON.parse(block.textContent);
    const live = document.getElementById(block.dataset.for);
    const find = (name) => live.querySelector(`[data-part="${name}"]`);
    const [select, slide, number, unit, chart, list, tip, said] =
      ["axis", "slide", "number", "unit", "chart", "points", "tip", "said"].map(find);
    const place = document.getElementById(live.dataset.instead);
    const title = document.getElementById(live.dataset.title);
    let axis = axes[0], budget = null, view = null, drawn = 0, plot = 0;

    const scale = (value) => (axis.log ? Math.log(value) : value);
    const back = (value) => (axis.log ? Math.exp(value) : value);
    const share = (value) => 1000 * (scale(value) - scale(axis.costs[0])) / (scale(axis.costs[1]) - scale(axis.costs[0]));
    const named = (value) => `${value}${axis.unit ? ` ${axis.unit}` : ""}`;
    const limit = () => (budget === null ? Number.MAX_VALUE : budget);

    function tell() {
      said.classList.toggle("hint", budget === null);
      slide.setAttribute("aria-valuetext", budget === null ? "no budget" : named(budget));
      if (budget === null) {
        said.textContent = "No budget: move the slider, or write a number, and what costs more turns grey.";
        return;
      }
      const fit = axis.points.filter((p) => p.cost <= budget);
      const best = fit.reduce((a, b) => (a === null || b.score > a.score ? b : a), null);
      said.textContent = `${fit.length} of ${axis.points.length} fit into ${named(budget)} of ${axis.title}` +
        (best ? `; the highest of them by the estimate is ${best.name}, ${best.score_text}.` : ".");
    }

    // A point is chosen by pointing at it, or by the keyboard in the list: the same ring and words.
    function choose(place) {
      const point = listed(axis)[place];
      [...list.querySelectorAll("a")].forEach((one, i) => one.classList.toggle("chosen", i === place));
      if (view) view.signal("chosen", point ? place : -1).runAsync();
      tip.hidden = !point;
      if (!point) return;
      tip.textContent = point.description;
      const box = chart.getBoundingClientRect(), all = live.getBoundingClientRect();
      const x = box.left - all.left + LEFT + view.scale("x")(point.cost);
      const y = box.top - all.top + TOP + view.scale("y")(point.score);
      // Inside the chart, so that it hides neither the names nor the list.
      const { width, height } = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(0, Math.min(x + 12, LEFT + plot - width))}px`;
      tip.style.top = `${y + 16 + height > box.bottom - all.top ? y - height - 12 : y + 16}px`;
    }

    // Each point as a link to its row in the table; in the wide layout where the labels stand.
    function name(width, room, narrow) {
      const letters = Math.floor((room - 16) / LETTER);
      list.replaceChildren(...listed(axis).map((point, place) => {
        const item = document.createElement("li"), link = document.createElement("a");
        link.href = `#${point.row}`;
        link.textContent = `${narrow ? point.name : cut(point.name, letters - point.share.length - 1)}, ${point.share}`;
        link.addEventListener("focus", () => choose(place));
        link.addEventListener("blur", () => choose(-1));
        link.addEventListener("mouseenter", () => choose(place));
        link.addEventListener("mouseleave", () => choose(-1));
        if (!narrow) {
          const share = (point.label - axis.scores[0]) / (axis.scores[1] - axis.scores[0]);
          item.style.top = `${TOP + axis.height * (1 - share) - 12}px`;
          item.style.right = "0";
          item.style.width = `${room - 6}px`;
        }
        item.append(link);
        return item;
      }));
      list.closest(".live").classList.toggle("wide", !narrow);
    }

    function mark() {
      const points = listed(axis);
      list.querySelectorAll("a").forEach((link, place) => {
        const over = budget !== null && points[place].cost > budget;
        link.classList.toggle("over", over);
        link.setAttribute("aria-label", points[place].description + (over ? "; over the budget" : ""));
      });
    }

    async function draw() {
      const width = chart.clientWidth;
      drawn = width;
      const narrow = width < NARROW;
      const longest = Math.max(...axis.points.map((p) => p.name.length + p.share.length + 1));
      const room = narrow ? NUMBERS : Math.min(18 + Math.ceil(longest * LETTER), Math.round(width * 0.4));
      const options = {
        mode: "vega-lite", renderer: "svg", actions: false, ast: true, defaultStyle: false,
        tooltip: (handler, event, item, value) => choose(value && item && item.datum ? item.datum.place : -1),
      };
      plot = width - LEFT - room;
      if (view) view.finalize();
      view = (await window.vegaEmbed(chart, spec(axis, limit(), plot, room, narrow), options)).view;
      // The picture is one thing with a name; its points are the links of the list.
      chart.querySelector("svg").setAttribute("aria-hidden", "true");
      name(width, room, narrow);
      mark();
    }

    function set(value) {
      budget = value;
      tell();
      mark();
      if (view) view.signal("budget", limit()).runAsync();
    }

    function turn() {
      axis = axes[select.selectedIndex];
      title.textContent = `Score over ${axis.title}${axis.log ? " (logarithmic)" : ""}`;
      unit.textContent = axis.unit ? `, ${axis.unit}` : "";
      budget = null;
      slide.value = 1000;
      number.value = "";
      tell();
    }

    select.addEventListener("change", () => { turn(); draw(); });
    slide.addEventListener("input", () => {
      const at = Number(slide.value);
      if (at >= 1000) { number.value = ""; set(null); return; }
      const low = scale(axis.costs[0]), high = scale(axis.costs[1]);
      const value = Number(back(low + at / 1000 * (high - low)).toPrecision(3));
      number.value = value;
      set(value);
    });
    number.addEventListener("input", () => {
      const value = number.value === "" ? NaN : Number(number.value);
      if (!(value >= 0)) { slide.value = 1000; set(null); return; }
      slide.value = value > 0 ? Math.max(0, Math.min(999, share(value))) : 0;
      set(value);
    });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
    let waiting = 0;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { if (chart.clientWidth && chart.clientWidth !== drawn) draw(); }, 150);
    });

    for (const one of axes) select.add(new Option(one.title));
    live.hidden = false;
    turn();
    draw().then(() => { place.hidden = true; }, (error) => {
      live.hidden = true;
      throw error;
    });
  }

  document.querySelectorAll('script[data-for][type="application/json"].front-data').forEach(start);
})();
