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
      const sides = [data.sides[i], data.sides[j]];
      write("a", sides[0].name);
      write("b", sides[1].name);
      write("basis", pair.basis);
      write("summary", pair.summary);
      const counts = i > j ? { ...pair, only_a: pair.only_b, only_b: pair.only_a } : pair;
      for (const name of ["both", "only_a", "only_b", "neither"])
        if (counts[name] !== null) write(name, pair.runs ? counts[name].toLocaleString("en") : "–");
      const examples = find("examples");
      examples.replaceChildren();
      pair.named.forEach((place) => (pair.both === null ? addText : addLabel)(examples, place, sides));
      find("list").hidden = !examples.children.length;
    }

    function addLabel(body, place, sides) {
      const row = add(body, "tr"), [id, label] = data.examples[place];
      add(row, "th", id, { scope: "row" });
      add(row, "td", data.texts[label]);
      for (const side of sides) {
        add(row, "td", data.texts[side.answers[place]]);
        add(row, "td", `${Math.round(side.scores[place] * side.seeds)}/${side.seeds}`, { className: "number" });
      }
    }

    // Source, reference and the two texts, each with its chrF.
    function addText(list, place, sides) {
      const [id, reference, source] = data.examples[place];
      const entries = add(add(list, "li", id), "dl");
      function entry(name, text, lang) {
        add(entries, "dt", name);
        add(entries, "dd", text || "(nothing)", { dir: "auto", lang });
      }
      if (source === null) entry("source", "not known: copy_source has no answers", "");
      else entry("source", data.texts[source], data.languages[0]);
      entry("reference", data.texts[reference], data.languages[1]);
      for (const side of sides) {
        const mean = side.seeds === 1 ? "" : `mean of ${side.seeds} seeds `;
        entry(`${side.name}: ${mean}${side.scores[place].toFixed(1)}`, data.texts[side.answers[place]], data.languages[1]);
      }
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
