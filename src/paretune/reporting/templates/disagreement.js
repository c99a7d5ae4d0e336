// Which two methods are set beside each other is the reader's choice. Without JavaScript the pair
// that is already in the page stays.
"use strict";
(() => {
  function start(block) {
    const data = JSON.parse(block.textContent);
    const live = document.getElementById(block.dataset.for);
    const find = (name) => live.querySelector(`[data-part="${name}"]`);
    const [first, second] = [find("first"), find("second")];
    // Everything below is text nodes: nothing that came from data is read as markup.
    const write = (name, text) => live.querySelectorAll(`[data-part="${name}"]`).forEach((e) => { e.textContent = text; });
    const label = (i) => (i < 0 ? "no label" : i < data.labels.length ? data.labels[i] : String(i));
    const counted = (n, noun) => `${n.toLocaleString("en")} ${n === 1 ? noun : `${noun}s`}`;

    function cell(row, kind, text, number = false) {
      const one = document.createElement(kind);
      if (kind === "th") one.scope = "row";
      if (number) one.className = "number";
      one.textContent = text;
      row.append(one);
    }

    function show() {
      const i = first.selectedIndex, j = second.selectedIndex;
      const same = i === j;
      find("same").hidden = !same;
      find("found").hidden = same;
      if (same) return;
      const pair = data.pairs.find((p) => p.a === Math.min(i, j) && p.b === Math.max(i, j));
      const [a, b] = [data.sides[i], data.sides[j]];
      const turned = i > j;
      const [only, other] = turned ? [pair.only_b, pair.only_a] : [pair.only_a, pair.only_b];
      write("a", a.name);
      write("b", b.name);
      write("basis", pair.runs
        ? `${data.n.toLocaleString("en")} test ${data.unit} × ${counted(pair.runs, "pair")} of runs`
        : "no seed that both have: nothing can be counted");
      Object.entries({ ...pair, only_a: only, only_b: other })
        .filter(([name]) => ["both", "only_a", "only_b", "neither", "equal"].includes(name))
        .forEach(([name, n]) => write(name, pair.runs ? n.toLocaleString("en") : "–"));
      const named = data.texts ? pair.segments : pair.named;
      find("examples").replaceChildren(...(data.texts ? named.map((one) => segment(one, [a, b], turned)) : named.map((place) => {
        const row = document.createElement("tr");
        const [id, right] = data.examples[place];
        cell(row, "th", id);
        cell(row, "td", label(right));
        for (const side of [a, b]) {
          cell(row, "td", label(side.answers[place]));
          cell(row, "td", `${side.right[place]}/${side.seeds}`, true);
        }
        return row;
      })));
      find("list").hidden = !named.length;
      write("differing", data.texts ? describeSegments(pair) : describe(pair));
    }

    // One segment of two translations: its texts, and the chrF of what each run output.
    function segment({ uid, source, reference, outputs, seeds, scores, means }, sides, turned) {
      const item = document.createElement("li"), list = document.createElement("dl");
      item.append(uid, list);
      function entry(name, text, language) {
        const [term, given] = ["dt", "dd"].map((kind) => document.createElement(kind));
        term.textContent = name;
        given.textContent = text;
        if (language !== null) given.dir = "auto";
        if (language) given.lang = language;
        list.append(term, given);
      }
      if (source === null) entry("source", "not known: copy_source has no answers", null);
      else entry("source", data.texts[source], data.languages[0]);
      entry("reference", data.texts[reference], data.languages[1]);
      sides.forEach((side, k) => {
        const at = turned ? 1 - k : k;
        const mean = side.seeds === 1 ? "" : `, mean of ${side.seeds} seeds ${means[at].toFixed(1)}`;
        entry(`${side.name}, seed ${seeds[at]}: ${scores[at].toFixed(1)}${mean}`, data.texts[outputs[at]] || "(nothing)", data.languages[1]);
      });
      return item;
    }

    // The same words as in the page's templates.
    function describeSegments(pair) {
      const whole = `The means over seeds differ on ${pair.differing.toLocaleString("en")} of ${data.n.toLocaleString("en")} test segments`;
      return pair.differing ? `${whole}; the ${pair.segments.length} with the largest difference are shown.` : `${whole}.`;
    }

    function describe(pair) {
      const whole = `Majority answers over seeds differ on ${pair.differing.toLocaleString("en")} of ${data.n.toLocaleString("en")} test ${data.unit}`;
      const left = pair.differing - pair.named.length;
      if (!pair.differing) return `${whole}.`;
      return left ? `${whole}; the ${pair.named.length} with the clearest difference are listed, ${left.toLocaleString("en")} are left out.`
        : `${whole}; all are listed, the clearest difference first.`;
    }

    for (const side of data.sides) {
      first.add(new Option(side.name));
      second.add(new Option(side.name));
    }
    const shown = data.pairs[data.default_pair];
    [first.selectedIndex, second.selectedIndex] = [shown.a, shown.b];
    find("choice").hidden = false;
    first.addEventListener("change", show);
    second.addEventListener("change", show);
  }

  document.querySelectorAll('script[data-for][type="application/json"].disagree-data').forEach(start);
})();
