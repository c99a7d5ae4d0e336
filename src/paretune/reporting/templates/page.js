// Columns that sort and commands that copy. Without JavaScript they are plain tables and texts.
"use strict";
(() => {
  const SIZES = {
    KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, k: 1e3, M: 1e6, G: 1e9, "µs": 1e-6, ms: 1e-3, min: 60, h: 3600,
  };
  // The first number of a cell in its unit; NaN of words.
  const amount = (text) => {
    const [, number, unit] = text.match(/^[≤<>\s]*(-?[\d,]*\.?\d+(?:e-?\d+)?)\s*(KiB|MiB|GiB|[kMG]\b|µs|ms|min|h\b)?/) || [];
    return number === undefined ? NaN : Number(number.replaceAll(",", "")) * (SIZES[unit] || 1);
  };

  function sort(table, column, down) {
    const key = (row) => row.cells[column].textContent.trim();
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !row.classList.contains("model"));
      rows.sort((a, b) => {
        const [x, y] = [amount(key(a)), amount(key(b))];
        if (Number.isNaN(x) || Number.isNaN(y)) {
          if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
          return (down ? -1 : 1) * key(a).localeCompare(key(b));
        }
        return down ? y - x : x - y;
      });
      body.append(...rows);
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.className = "sort";
      button.textContent = "↕";
      button.setAttribute("aria-label", `Sort by ${head.textContent}`);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((one) => {
          one.removeAttribute("aria-sort");
          one.querySelector("button").textContent = "↕";
        });
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        button.textContent = down ? "↓" : "↑";
        sort(table, column, down);
      });
      head.append("\u00a0", button);
    });
  }

  for (const command of document.querySelectorAll("code.command")) {
    const button = document.createElement("button");
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      // Selected too, for a browser that does not let a page copy.
      getSelection().selectAllChildren(command);
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    });
    command.after(" ", button);
  }
})();
