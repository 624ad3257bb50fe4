// On a phone the contents and the sidebar are dialogs. A link to a place on the page closes its
// dialog, and closing one gives the focus back to the button that opened it.
document.addEventListener("DOMContentLoaded", () => {
  let opener = null;
  document.addEventListener(
    "click",
    (event) => {
      opener = event.target.closest(".sidebar-toggle, .search-button__button") ?? opener;
      setTimeout(() => {
        if (!document.querySelector("dialog[open]")) opener = null;
      });
    },
    true,
  );
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => {
      const last = opener;
      opener = null; // the next may be opened by a key, and then the browser knows where it was
      setTimeout(() => last?.focus());
    });
    dialog.addEventListener("click", (event) => {
      if (event.target.closest('a[href^="#"]')) dialog.close();
    });
  }
});

// Say in a screen reader's voice what else is only seen.
const attnSay = (() => {
  let region = null;
  document.addEventListener("DOMContentLoaded", () => {
    region = document.createElement("div");
    region.className = "visually-hidden";
    region.setAttribute("role", "status");
    document.querySelector("main").append(region);
  });
  return (text) => {
    region.textContent = "";
    setTimeout(() => (region.textContent = text), 50); // so that the same words are said again
  };
})();

// Code and outputs have names: live cells their own, all others are numbered. What was copied, the
// colors that were chosen, whether the contents are shown and what a search found are said, and the
// focus stays where it was.
document.addEventListener("DOMContentLoaded", () => {
  const names = new Map();
  let listings = 0;
  const cellOf = (element) => {
    const cell = element.closest(".cell") ?? element.closest(".highlight");
    const own = cell.querySelector("[data-cell]")?.dataset.cell;
    if (!names.has(cell)) names.set(cell, own ?? `listing ${(listings += 1)}`);
    return names.get(cell);
  };
  for (const pre of document.querySelectorAll(".bd-article pre")) {
    const name = (pre.closest(".cell_output") ? "output of " : "") + cellOf(pre);
    pre.dataset.name = name;
    pre.parentElement.querySelector(".copybtn")?.setAttribute("aria-label", `Copy ${name}`);
  }
  for (const output of document.querySelectorAll(".bd-article .cell_output")) {
    output.setAttribute("role", "group");
    output.setAttribute("aria-label", `Output of ${cellOf(output)}`);
  }
  const stay = (button, say) =>
    setTimeout(() => {
      if (document.querySelector("dialog[open]")) return;
      button.focus({ preventScroll: true });
      say();
    });
  for (const button of document.querySelectorAll(".copybtn")) {
    button.addEventListener("click", () =>
      stay(button, () => button.classList.contains("success") && attnSay("Copied")),
    );
  }
  const colors = document.querySelector(".theme-switch-button");
  const named = () => `Color mode: ${document.documentElement.dataset.mode}`;
  colors?.setAttribute("aria-label", named());
  colors?.addEventListener("click", () =>
    stay(colors, () => {
      colors.setAttribute("aria-label", named());
      attnSay(named());
    }),
  );
  const full = document.querySelector(".btn-fullscreen-button");
  const pressed = () => full?.setAttribute("aria-pressed", !!document.fullscreenElement);
  pressed();
  document.addEventListener("fullscreenchange", pressed);
  const sidebar = document.querySelector("#pst-primary-sidebar");
  const shown = () => (sidebar.classList.contains("pst-sidebar-hidden") ? "hidden" : "shown");
  // The theme lets no click on this button come through.
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target.closest(".primary-toggle");
      if (button) stay(button, () => attnSay(`Contents ${shown()}`));
    },
    true,
  );
  const results = document.querySelector("#search-results");
  if (!results) return;
  let said = "";
  new MutationObserver(() => {
    const summary = results.querySelector(".search-summary")?.textContent.trim() ?? "";
    if (summary !== said) attnSay((said = summary));
  }).observe(results, { childList: true, subtree: true, characterData: true });
});

// Sections below the screen are laid out when the page stands, one in each idle moment, so that
// what asks where things are, such as a tool for the disabled, hears no places that are guesses.
addEventListener("load", () => {
  const whenIdle = window.requestIdleCallback ?? setTimeout;
  const waiting = [...document.querySelectorAll(".bd-article > section > section")];
  const next = () => {
    const section = waiting.shift();
    if (!section) return;
    section.style.contentVisibility = "visible";
    section.getBoundingClientRect(); // now, in this moment
    whenIdle(next);
  };
  whenIdle(next);
});

// An excerpt of a page that was found is of its text, without menus, buttons and second copies of
// formulas.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const chrome = ".headerlink, .live-bar, .katex-html, annotation, summary, script, style";
  Search.htmlToText = (html) => {
    const article = new DOMParser().parseFromString(html, "text/html").querySelector("article");
    article?.querySelectorAll(chrome).forEach((element) => element.remove());
    return article?.textContent ?? "";
  };
});

// What scrolls inside itself can be reached, and so scrolled, by the keyboard.
document.addEventListener("DOMContentLoaded", () => {
  const wide = ".bd-article table, .bd-article .katex-display, .bd-article div.math";
  const mark = () => {
    for (const element of document.querySelectorAll(wide)) {
      if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
    // The theme does so with code.
    for (const pre of document.querySelectorAll(".bd-article pre[tabindex='0'][data-name]")) {
      pre.setAttribute("role", "group");
      pre.setAttribute("aria-label", pre.dataset.name);
    }
  };
  mark();
  addEventListener("resize", mark);
});

// What a reader wrote, guessed and solved is kept in this browser. Nothing of it leaves it.
const attnKept = {
  read(key, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? otherwise;
    } catch {
      return otherwise; // storage is forbidden, or holds what is not ours: pages work without it
    }
  },
  write(key, value) {
    try {
      localStorage.setItem(key, JSON.stringify(value));
    } catch {
      // as above
    }
  },
};

const attnSolved = {
  names: () => attnKept.read("attn-course solved", []),
  has: (name) => attnSolved.names().includes(name),
  add: (name) => attnKept.write("attn-course solved", [...new Set([...attnSolved.names(), name])]),
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

// A card names pages to read again by their files; here they are links.
const attnLinkPages = (() => {
  const root = new URL("..", document.currentScript.src); // of the book
  return (card) => {
    for (const code of card.querySelectorAll("code")) {
      const [, path] = code.textContent.match(/^(book\/\w+\/\w+)$/) ?? [];
      if (!path) continue;
      const { href } = new URL(`${path}.html`, root);
      const links = [...document.querySelectorAll(".bd-links a")];
      const entry = links.find((link) => link.href.split(/[?#]/)[0] === href);
      const textContent = entry?.textContent ?? code.textContent;
      code.replaceWith(Object.assign(document.createElement("a"), { href, textContent }));
    }
  };
})();
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll('[aria-label^="Check of"]').forEach(attnLinkPages);
});
