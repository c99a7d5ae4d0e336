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

    function add(parent, kind, text, attributes = {}) {
      const element = parent.appendChild(document.createElement(kind));
      if (text !== undefined) element.textContent = text;
      return Object.assign(element, attributes);
    }

    function show() {
      const i = first.selectedIndex, j = second.selectedIndex;
      find("same").hidden = i !== j;
      find("found").hidden = i === j;
      if (i === j) return;
      const pair = data.pairs.find((p) => p.a === Math.min(i, j) && p.b === Math.max(i, j));
      const sides = [data.sides[i], data.sides[j]], places = i > j ? [1, 0] : [0, 1];
      write("a", sides[0].name);
      write("b", sides[1].name);
      write("basis", pair.basis);
      write("summary", pair.summary);
      const counts = { ...pair, only_a: [pair.only_a, pair.only_b][places[0]], only_b: [pair.only_a, pair.only_b][places[1]] };
      for (const name of ["both", "only_a", "only_b", "neither", "equal"])
        if (name in counts) write(name, pair.runs ? counts[name].toLocaleString("en") : "–");
      const examples = find("examples");
      examples.replaceChildren();
      if (data.texts) pair.segments.forEach((segment) => addSegment(examples, segment, sides, places));
      else pair.named.forEach((place) => addExample(examples, place, sides));
      find("list").hidden = !examples.children.length;
    }

    function addExample(body, place, sides) {
      const row = add(body, "tr"), [id, label] = data.examples[place];
      add(row, "th", id, { scope: "row" });
      add(row, "td", data.labels.at(label));
      for (const side of sides) {
        add(row, "td", data.labels.at(side.answers[place]));
        add(row, "td", `${side.right[place]}/${side.seeds}`, { className: "number" });
      }
    }

    // One segment of two translations: its texts, and the chrF of what each run output.
    function addSegment(list, segment, sides, places) {
      const entries = add(add(list, "li", segment.uid), "dl");
      function entry(name, text, lang) {
        add(entries, "dt", name);
        add(entries, "dd", text || "(nothing)", { dir: "auto", lang });
      }
      if (segment.source === null) entry("source", "not known: copy_source has no answers", "");
      else entry("source", data.texts[segment.source], data.languages[0]);
      entry("reference", data.texts[segment.reference], data.languages[1]);
      sides.forEach((side, k) => {
        const at = places[k];
        const mean = side.seeds === 1 ? "" : `, mean of ${side.seeds} seeds ${segment.means[at].toFixed(1)}`;
        const term = `${side.name}, seed ${segment.seeds[at]}: ${segment.scores[at].toFixed(1)}${mean}`;
        entry(term, data.texts[segment.outputs[at]], data.languages[1]);
      });
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
