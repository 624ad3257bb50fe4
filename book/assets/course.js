// On a phone the contents and the sidebar are dialogs. A link to a place on the page closes its
// dialog, and closing one gives the focus back to the button that opened it.
document.addEventListener("DOMContentLoaded", () => {
  let opener = null;
  document.addEventListener(
    "click",
    (event) => {
      opener = event.target.closest(".sidebar-toggle, .search-button__button") ?? opener;
    },
    true,
  );
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => setTimeout(() => opener?.focus()));
    dialog.addEventListener("click", (event) => {
      if (event.target.closest('a[href^="#"]')) dialog.close();
    });
  }
});

// What scrolls inside itself can be reached, and so scrolled, by the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  const wide = ".bd-article table, .bd-article .katex-display, .bd-article div.math";
  const mark = () => {
    for (const element of document.querySelectorAll(wide)) {
      if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
  };
  mark();
  addEventListener("resize", mark);
});

// The exercises that were solved in this browser. Nothing of it leaves the browser.
const attnSolved = {
  names() {
    try {
      return JSON.parse(localStorage.getItem("attn-course solved")) ?? [];
    } catch {
      return []; // storage is forbidden: the pages work without it
    }
  },
  has(name) {
    return this.names().includes(name);
  },
  add(name) {
    try {
      localStorage.setItem("attn-course solved", JSON.stringify([...new Set([...this.names(), name])]));
    } catch {
      // as above
    }
  },
};

// The table of the exercises says which are solved.
document.addEventListener("DOMContentLoaded", () => {
  const table = [...document.querySelectorAll("article table")].find(
    ({ tHead }) => tHead?.rows[0].cells[0].textContent === "exercise",
  );
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  let solved = 0;
  for (const row of rows) {
    const name = row.querySelector("code");
    if (!attnSolved.has(name.textContent)) continue;
    solved += 1;
    name.after(" solved");
  }
  const said = Object.assign(document.createElement("p"), {
    textContent: `${solved} of ${rows.length} solved in this browser.`,
  });
  table.before(said);
});
