// The live cells of a page: their code can be edited and run here, by the Python of
// live-worker.js, which is loaded at the first Run and not before.
(() => {
  const megabytes = document.currentScript.dataset.megabytes;
  const workerAddress = new URL("live-worker.js", document.currentScript.src);
  const kept = `attn-course ${location.pathname}`; // what a reader wrote here, in this browser alone

  const SPOKEN = 150; // characters of an output that are said
  const counted = (number) => (number === 1 ? "another cell" : `${number} other cells`);
  const loading = `Loading Python: ${megabytes} MB, once`;

  let worker = null; // the Python that is running or loading
  let ready = false; // whether it has loaded
  let ran = new Set(); // the cells that it has run as they stand
  let asked = null; // the cell whose Run was pressed
  let busy = null; // {cell, resolve} of the cell that is running, asked or one above it

  const words =
    /(#[^\n]*)|((?:[rfb]{0,2})(?:"""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))|\b(and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield)\b|\b(True|False|None)\b|\b(\d[\w.]*)/g;
  const classes = ["c1", "s2", "k", "kc", "mi"]; // as Pygments calls the groups above

  function highlight(code) {
    const pieces = [];
    let last = 0;
    for (const match of code.matchAll(words)) {
      pieces.push(code.slice(last, match.index));
      const span = document.createElement("span");
      span.className = classes[match.slice(1).findIndex((group) => group !== undefined)];
      span.textContent = match[0];
      pieces.push(span);
      last = match.index + match[0].length;
    }
    pieces.push(code.slice(last), "\n");
    return pieces;
  }

  class Cell {
    constructor(element, number) {
      this.element = element;
      this.number = number;
      this.bar = element.querySelector(".live-bar");
      this.name = this.bar.dataset.cell;
      [this.runButton, this.stopButton, this.resetButton] = this.bar.querySelectorAll("button");
      this.says = this.bar.querySelector(".live-says");
      this.progress = this.bar.querySelector(".live-progress");
      this.pre = element.querySelector(".cell_input pre");
      this.code = this.pre.textContent.replace(/\n$/, "");
      this.output = element.querySelector(".cell_output");
      this.stored = this.output ? [...this.output.childNodes] : null;
      this.runButton.addEventListener("click", () => run(this));
      this.stopButton.addEventListener("click", () => stop());
      this.resetButton.addEventListener("click", () => this.reset());
      this.addEditor();
    }

    addEditor() {
      this.editor = document.createElement("textarea");
      this.editor.className = "live-code";
      this.editor.spellcheck = false;
      this.editor.autocapitalize = "off";
      this.editor.setAttribute("autocorrect", "off");
      this.editor.setAttribute("aria-label", `Code of ${this.name}`);
      this.editor.setAttribute("aria-description", "Shift and Enter runs it and goes on, Control and Enter runs it and stays.");
      this.editor.rows = 1; // the size is that of the code behind it
      this.pre.setAttribute("aria-hidden", "true");
      this.pre.removeAttribute("tabindex");
      this.pre.after(this.editor);
      const written = attnKept.read(kept, {})[this.number];
      this.editor.value = written?.of === this.code ? written.now : this.code;
      if (this.editor.value !== this.code) this.edited();
      this.editor.addEventListener("input", () => this.edited());
      this.editor.addEventListener("keydown", (event) => this.pressed(event));
    }

    edited() {
      this.pre.replaceChildren(...highlight(this.editor.value));
      const { [this.number]: _, ...others } = attnKept.read(kept, {});
      const changed = this.editor.value !== this.code;
      const written = { of: this.code, now: this.editor.value };
      attnKept.write(kept, changed ? { ...others, [this.number]: written } : others);
      this.resetButton.hidden = !changed && !this.changedOutput;
      for (const cell of cells.slice(this.number)) ran.delete(cell);
      const check = this.answers && cells[this.number + 1];
      if (check?.changedOutput && check !== asked) check.say("The answer has changed since.");
    }

    pressed(event) {
      if (event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        run(this);
        // As in JupyterLab, on to the next cell; folded ones have no room for a cursor.
        const next = (cell) => cell.editor.checkVisibility();
        if (event.shiftKey) cells.slice(this.number + 1).find(next)?.editor.focus();
      } else if (event.key === "Enter" && !event.isComposing) {
        // A new line begins as deep as the one above, and deeper after a colon.
        event.preventDefault();
        const before = this.editor.value.slice(0, this.editor.selectionStart).split("\n").at(-1);
        const deeper = /:\s*(#.*)?$/.test(before) ? "    " : "";
        this.insert(`\n${before.match(/^ */)[0]}${deeper}`);
      } else if (event.key === "Backspace" && this.editor.selectionStart === this.editor.selectionEnd) {
        const end = this.editor.selectionStart;
        const before = this.editor.value.slice(0, end).split("\n").at(-1);
        if (/^( {4})+$/.test(before)) {
          event.preventDefault();
          this.editor.setSelectionRange(end - 4, end);
          this.insert("");
        }
      }
    }

    insert(text) {
      // The one way that keeps the browser's undo.
      document.execCommand(text ? "insertText" : "delete", false, text);
    }

    show(kind, text) {
      const shown = document.createElement("div");
      if (kind === "html") {
        shown.className = "output text_html";
        shown.innerHTML = text;
        attnLinkPages(shown);
      } else {
        shown.className = kind === "error" ? "output live-error" : "output stream";
        const last = this.output.lastElementChild;
        if (kind === "text" && last?.classList.contains("stream") && last.dataset.printed) {
          last.firstElementChild.textContent += text;
          return;
        }
        shown.dataset.printed = "yes";
        shown.append(Object.assign(document.createElement("pre"), { textContent: text, tabIndex: 0 }));
      }
      this.output.append(shown);
    }

    // Make room for what the cell will show; `open` also unfolds it.
    clear(open) {
      if (!this.output) {
        this.output = document.createElement("div");
        this.output.className = "cell_output docutils container";
        this.output.setAttribute("role", "group");
        this.output.setAttribute("aria-label", `Output of ${this.name}`);
        this.element.append(this.output);
      }
      this.output.replaceChildren();
      const fold = this.output.closest("details");
      if (fold && open) fold.open = true;
      if (open) this.element.querySelector(".guess")?.dispatchEvent(new Event("given-up"));
      this.changedOutput = true;
      this.resetButton.hidden = false;
    }

    reset() {
      this.editor.select();
      this.insert(this.code); // in the way that can be undone
      this.changedOutput = false;
      if (this.stored) this.output.replaceChildren(...this.stored);
      else if (this.output) {
        this.output.remove();
        this.output = null;
      }
      this.edited();
      this.say("");
      this.runButton.focus();
    }

    // `heard` is for who does not see what stands below, `progress` for who does not listen.
    say(text, { heard = "", progress = "" } = {}) {
      if (this.says.textContent !== text + heard) {
        const aside = Object.assign(document.createElement("span"), { textContent: heard });
        aside.className = "visually-hidden";
        this.says.replaceChildren(text, aside);
      }
      this.progress.textContent = progress;
    }

    // What a reader hears of the output: the verdict of a check, the last line of an error, or all
    // that is short.
    get heard() {
      const texts = this.output ? [...this.output.children] : [];
      const card = this.output?.querySelector("[aria-label^='Check of'] strong");
      if (card) return `. ${card.textContent}`;
      const shown = texts.map((each) => each.textContent.trim()).filter(Boolean).join(" ");
      if (texts.at(-1)?.matches(".live-error")) return `. ${shown.split("\n").at(-1)}`;
      return shown && shown.length <= SPOKEN ? `. ${shown}` : "";
    }

    running(is) {
      const [gone, come] = is
        ? [this.runButton, this.stopButton]
        : [this.stopButton, this.runButton];
      const focused = document.activeElement === gone;
      gone.hidden = true;
      come.hidden = false;
      if (focused) come.focus({ preventScroll: true });
    }
  }

  function start() {
    ran = new Set();
    ready = false;
    worker = new Worker(workerAddress, { type: "module" });
    worker.onmessage = ({ data }) => heard(data);
    worker.onerror = () => heard({ failed: "its worker did not start" });
  }

  function heard(data) {
    if (data.total) {
      const percent = Math.round((100 * data.loaded) / data.total);
      if (percent < 100) asked?.say(loading, { progress: `${percent}%` });
      else asked?.say("Starting Python");
    } else if (data.ready) {
      ready = true;
      asked?.say("Running");
    } else if (data.lost) {
      busy?.cell.show("error", data.lost);
      stop(`Python gave up in ${busy?.cell.name}: no memory is left, or a call never ends.`);
    } else if (data.failed) {
      worker = null;
      finish(`Python could not be loaded: ${data.failed}. Run tries again.`);
    } else if (data.kind === "passed") {
      attnSolved.add(data.text);
    } else if (data.kind) {
      busy?.cell.show(data.kind, data.text);
    } else if (data.done) {
      busy?.resolve(data.ended);
    }
  }

  function runOne(cell) {
    return new Promise((resolve) => {
      busy = { cell, resolve };
      cell.clear(cell === asked);
      worker.postMessage({ name: cell.name, code: cell.editor.value });
    });
  }

  // A name that the last answer made, and that the next may not make any more.
  function forget(name) {
    return new Promise((resolve) => {
      busy = { cell: { show() {}, name }, resolve };
      worker.postMessage({ name, code: `globals().pop("${name}", None)` });
    });
  }

  // Run a cell after those above it that have not run as they stand: it may need what they make.
  // Nothing needs what a check makes, nor what is answered to another question. A check judges what
  // stands in the cell above it, and nothing when that ends with an error.
  async function run(cell) {
    if (asked) {
      cell.say(`${asked.name} is running`);
      return;
    }
    asked = cell;
    if (!worker) start();
    cell.running(true);
    cell.say(ready ? "Running" : loading);
    const answer = cell.checks && cells[cell.number - 1];
    const needed = cells
      .slice(0, cell.number)
      .filter((earlier) => !ran.has(earlier) && !earlier.checks && !earlier.answers);
    if (answer) needed.push(answer);
    const failed = [];
    for (const next of [...needed, cell]) {
      if (next === answer) await forget(cell.checks);
      if (asked !== cell) return; // stopped, and another run may have begun
      if (ready && next !== cell) cell.say(`Running ${counted(needed.length)} first`);
      const ended = await runOne(next);
      if (asked !== cell) return;
      if (ended) ran.add(next);
      else failed.push(next.name);
      if (!ended && next === answer) {
        cell.clear(true);
        return finish(`No verdict: ${next.name} ended with an error, shown below it.`);
      }
    }
    const says = failed.length ? `Ended with an error: ${failed.join(", ")}` : "Done";
    finish(says, cell.heard);
  }

  function finish(says, heard = "") {
    const cell = asked;
    asked = busy = null;
    cell?.running(false);
    cell?.say(says, { heard });
  }

  function stop(says = `Stopped in ${busy?.cell.name ?? asked.name}.`) {
    worker?.terminate();
    start(); // so that the next Run need not wait
    finish(`${says} The next Run begins anew.`);
  }

  const cells = [];
  for (const element of document.querySelectorAll(".cell.tag_live")) {
    const cell = new Cell(element, cells.length);
    cells.push(cell);
    if (!element.matches(".tag_check")) continue;
    [, cell.checks] = cell.code.match(/^check\("(\w+)"/);
    cells[cell.number - 1].answers = true;
    if (!attnSolved.has(cell.checks)) continue;
    cell.say("Solved in this browser. Run checks it again.");
    cell.output?.replaceChildren(); // the card of who has not tried
  }

  if (location.protocol === "file:") {
    // A browser starts no worker from a file.
    for (const cell of cells) {
      cell.runButton.disabled = true;
      cell.say("Cells run where the book is served: type make serve in its folder.");
    }
  }
})();
