// The figures that answer. attn_course/widgets.py drew each of them in one state; here each gets
// its controls, and at every change its view and its sentence are computed anew. The markup and
// the rounding are those of that module, and a test compares the two.
(() => {
  const ink = "var(--pst-color-primary,#0072B2)";
  const on = ` style="background:${ink};color:var(--pst-color-background,#fff)"`;

  const plain = (x, digits = 1) => {
    const text = (x + (x < 0 ? -1e-9 : 1e-9)).toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text;
  };
  const fixed = (x, digits) => plain(x, digits).replace("-", "−");
  const typed = (x) => x.toLocaleString("en", { maximumFractionDigits: 6 }).replace("-", "−");
  const count = (n, what) => `${typed(n)} ${what}${n === 1 ? "" : "s"}`;
  const list = (items) =>
    items.length > 1 ? `${items.slice(0, -1).join(", ")} and ${items.at(-1)}` : items[0];
  const range = (n, of = (i) => i) => Array.from({ length: n }, (_, i) => of(i));
  const sum = (items) => items.reduce((a, b) => a + b, 0);

  const cell = (x) => (`${x}`.startsWith("<t") ? x : `<td>${x}</td>`);
  const row = (head, cells) => `<tr><th scope="row">${head}</th>${cells.map(cell).join("")}</tr>`;
  const body = (rows) => `<tbody>${rows.join("")}</tbody></table>`;
  const table = (head, rows) =>
    `<table><thead><tr>${head
      .map((name) => (name ? `<th scope="col">${name}</th>` : "<td></td>"))
      .join("")}</tr></thead>${body(rows)}`;
  const lit = (text) => `<td${on}>${text}</td>`;
  const bar = (share) => {
    const width = `${plain(100 * share)}%`;
    const style = `width:${width};border-top:.8em solid ${ink}`;
    return `<td class="widget-bar"><div role="img" aria-label="${width}" style="${style}"></div></td>`;
  };
  const svg = (width, height, shapes) =>
    `<svg viewBox="0 0 ${width} ${height}" width="${width}" aria-hidden="true" style="max-width:100%;height:auto">${shapes}</svg>`;
  const label = (x, y, color, text) =>
    `<text x="${x}" y="${y}" style="fill:${color};font-size:12px;text-anchor:middle">${text}</text>`;
  const circle = (radius) =>
    `<circle r="${plain(radius)}" style="fill:none;stroke:currentColor;opacity:.4"></circle>`;
  const arrow = (angle, length, thick, name, query) => {
    const color = query ? ink : "currentColor";
    const head = plain(4 + thick);
    const far = length + (query ? 34 : 18);
    return (
      `<path transform="rotate(${plain((-angle * 180) / Math.PI)})" style="stroke:${color};fill:${color}" ` +
      `stroke-width="${plain(thick)}"${query ? ' stroke-dasharray="6 3"' : ""} ` +
      `d="M0 0H${plain(length)}m0 0l-${head} -${plain(2 + thick / 2)}v${head}z"></path>` +
      label(plain(far * Math.cos(angle)), plain(4 - far * Math.sin(angle)), color, name)
    );
  };

  const softmax = (scores, t = 1) => {
    const top = Math.max(...scores);
    const terms = scores.map((s) => Math.exp((s - top) / t));
    return terms.map((term) => term / sum(terms));
  };

  // Each returns the view and the sentence of a state.
  const widgets = {
    temperature({ temperature, first, second, third }) {
      const scores = [first, second, third].map(typed);
      const weights = softmax([first, second, third], temperature);
      const entropy = -sum(weights.map((a) => (a ? a * Math.log(a) : 0)));
      const many = Math.exp(entropy);
      const rows = weights.map((a, n) => row(`key ${n + 1}`, [scores[n], bar(a), fixed(a, 3)]));
      rows.push(row("equal weights, of 3", ["", bar(many / 3), fixed(many, 2)]));
      return [
        table(["", "score", "share", "weight"], rows),
        `Scores ${list(scores)} at temperature ${typed(temperature)}: weights ` +
          `${list(weights.map((a) => fixed(a, 3)))}. Entropy ${fixed(entropy, 3)}: ` +
          `as spread out as ${fixed(many, 2)} equal weights.`,
      ];
    },

    query({ direction, length, north }) {
      const angle = (direction * Math.PI) / 180;
      const [x, y] = [length * Math.cos(angle), length * Math.sin(angle)];
      const keys = [
        ["east", 1, 18],
        ["north", north, 4],
        ["west", 1, 12],
      ];
      const weights = softmax([x, y * north, -x].map((score) => score / Math.SQRT2));
      const answer = fixed(sum(keys.map(([, , value], n) => value * weights[n])), 2);
      const unit = 86 / Math.max(1.5, length, north);
      const arrows = keys.map(([name, size], n) =>
        arrow((n * Math.PI) / 2, unit * size, 1 + 6 * weights[n], name),
      );
      const plane =
        `<g transform="translate(140 130)">${circle(unit)}${arrows.join("")}` +
        arrow(angle, unit * length, 2, "query", true) +
        `<circle class="widget-drag" cx="${plain(unit * x)}" cy="${plain(-unit * y)}" r="16" fill="transparent"></circle></g>`;
      const rows = keys.map(([name, , value], n) =>
        row(name, [value, bar(weights[n]), fixed(weights[n], 3)]),
      );
      rows.push(row("answer", [answer, "", ""]));
      return [
        svg(280, 260, plane) + table(["key", "value", "share", "weight"], rows),
        `Query of length ${typed(length)} at ${direction}°, key of north of length ` +
          `${typed(north)}: weights ${list(keys.map(([name], n) => `${fixed(weights[n], 3)} ${name}`))}. ` +
          `Answer ${answer} degrees.`,
      ];
    },

    masks({ pattern, size, words, queries, documents }) {
      const document = [0, 0, 0, 1, 1, 1, 1, 2];
      const patterns = {
        all: () => true,
        causal: (i, j) => j <= i,
        window: (i, j) => i - size < j && j <= i,
        prefix: (i, j) => j <= i || j < size,
      };
      const mask = range(queries, (n) => {
        const i = 8 - queries + n;
        return range(
          8,
          (j) =>
            patterns[pattern](i, j) && j < words && (!documents || document[i] === document[j]),
        );
      });
      const seen = mask.map(sum);
      const rows = mask.map((keys, n) =>
        row(9 - queries + n, [...keys.map((x) => (x ? lit(1) : 0)), seen[n]]),
      );
      const name = pattern === "all" ? "No mask" : pattern[0].toUpperCase() + pattern.slice(1);
      const one = queries === 1;
      return [
        table(["query ↓ key →", ...range(8, (n) => n + 1), "seen"], rows),
        `${name}${/w|p/.test(pattern) ? ` of ${size}` : ""}${documents ? ", three documents" : ""}, ` +
          `${count(words, "word")}, ${one ? "1 query" : `${queries} queries`}: ${sum(seen)} of ` +
          `${8 * queries} pairs are allowed. The ${one ? "query sees" : "queries see"} ${list(seen)} ` +
          `${`${seen}` === "1" ? "key" : "keys"}.`,
      ];
    },

    heads({ key_heads, width, tokens, listed }) {
      const read = range(8, (h) => (listed ? h % key_heads : Math.floor((h * key_heads) / 8)));
      const cells = [];
      read.forEach((head, n) => {
        if (n && head === read[n - 1]) return;
        const next = read.findIndex((other, m) => m > n && other !== head);
        cells.push(`<td colspan="${(next < 0 ? 8 : next) - n}"${head % 2 ? on : ""}>${head}</td>`);
      });
      const each = 2 * 8 * width * width;
      const kept = tokens * 4 * key_heads * width;
      const share = key_heads / 8;
      const amounts = [
        ["bytes in the cache of a layer", kept, share],
        ["parameters that make keys and values", each * key_heads, share],
        ["parameters of queries and output", each * 8, 1],
        ["scores of a new token", 8 * tokens, 1],
        ["numbers in its output", 8 * width, 1],
      ];
      return [
        `<table>${body([row("query head", range(8)), row("reads key head", cells)])}` +
          table(
            ["", "number", "share", "of that of 8"],
            amounts.map(([what, n, of]) => row(what, [typed(n), bar(of), `${typed(100 * of)}%`])),
          ),
        `8 query heads read the key heads ${list(read)}. With ${count(tokens, "token")} of width ` +
          `${width} the cache holds ${typed(kept)} bytes, ${typed(100 * share)}% of those of 8 key ` +
          `heads. A new token still has ${typed(8 * tokens)} scores and an output of ` +
          `${typed(8 * width)} numbers.`,
      ];
    },

    rotation({ query_at, key_at, shift }) {
      const tilt = Math.atan2(1, 2);
      const [q, k] = [query_at + shift, key_at + shift];
      const pairs = [
        ["quick", 1],
        ["slow", 0.1],
      ];
      const added = pairs.map(([, turn]) => 5 * Math.cos((k - q) * turn - 2 * tilt));
      const score = fixed(sum(added), 3);
      const degrees = (position, turn) => fixed((position * turn * 180) / Math.PI, 1);
      const rows = pairs.map(([name, turn], n) =>
        row(name, [degrees(q, turn), degrees(k, turn), fixed(added[n], 3)]),
      );
      rows.push(row("score", ["", "", score]));
      const planes = pairs.map(
        ([name, turn], n) =>
          `<g transform="translate(${80 + 160 * n} 82)">${circle(45)}` +
          arrow(k * turn - tilt, 45, 2, "k") +
          `${arrow(q * turn + tilt, 45, 2, "q", true)}</g>` +
          label(80 + 160 * n, 176, "currentColor", `${name} pair`),
      );
      return [
        svg(320, 184, planes.join("")) +
          table(["pair", "query turned by °", "key turned by °", "product"], rows),
        `Query at ${q}, key at ${k}: distance ${typed(k - q)}. The pairs add ` +
          `${fixed(added[0], 3)} and ${fixed(added[1], 3)} to the score, which is ${score}.`,
      ];
    },

    online({ block, read, reverse, forget }) {
      const ordered = (items) => (reverse ? items.reverse() : items);
      const terms = ordered([1, 1, 2, 4, 2, 8, 2, 4]);
      const values = ordered([4, 0, 2, 6, 2, 8, 6, 2]);
      let [m, l, o, numbers] = [-Infinity, 0, 0, []];
      const rows = [];
      for (let start = 0; start < read; start += block) {
        const stop = Math.min(start + block, read);
        const old = m;
        m = Math.max(m, ...terms.slice(start, stop).map(Math.log));
        const factor = forget ? 1 : Math.exp(old - m);
        const fresh = terms.slice(start, stop).map((term) => Math.exp(Math.log(term) - m));
        l = factor * l + sum(fresh);
        o = factor * o + sum(fresh.map((term, n) => term * values[start + n]));
        const all = terms.slice(0, stop);
        const right = sum(all.map((term, n) => term * values[n])) / sum(all);
        numbers = [m, factor, l, o, o / l, right].map((x) => fixed(x, 2));
        rows.push(row(rows.length + 1, numbers));
      }
      const [top, factor, below, above, output, right] = numbers;
      const sums =
        `: m ${top}, factor ${factor}, l ${below}, o ${above}. The output so far is ${output}, ` +
        (output === right ? "as of these keys at once" : `not ${right}`);
      const keys = [
        row("key", ordered(range(8, (n) => n + 1))),
        row("e to the score", terms),
        row("value", values),
        row(
          "read in block",
          range(8, (n) => (n < read ? lit(Math.floor(n / block) + 1) : "–")),
        ),
      ];
      return [
        `<table>${body(keys)}` + table(["block", "m", "factor", "l", "o", "o / l", "at once"], rows),
        `Blocks of ${block}${reverse ? ", the last key first" : ""}, ${read} of 8 keys read` +
          `${forget ? ", without the factor" : ""}${read ? sums : ""}.`,
      ];
    },

    cache({ tokens, texts, key_heads, bits, window }) {
      const layer = 4096 * (2 * 4096 + 2 * key_heads * 128 + 3 * 14336);
      const parameters = (2 * (32 * layer + 32000 * 4096)) / 1e9;
      const kept = window ? Math.min(tokens, window) : tokens;
      const one = (32 * kept * 4 * key_heads * 128 * bits) / 16 / 1e9;
      const read = parameters + texts * one;
      const amounts = [
        ["cache of one text", one],
        [`caches of ${typed(texts)}`, texts * one],
        ["parameters", parameters],
        ["read in a step", read],
      ];
      return [
        table(
          ["", "gigabytes", "share of what a step reads"],
          amounts.map(([what, amount]) => row(what, [fixed(amount, 2), bar(amount / read)])),
        ),
        `${count(texts, "text")} of ${count(tokens, "token")}${window ? ", the last 4,096 kept" : ""}, ` +
          `${count(key_heads, "head")} of keys and values, ${bits} bits: the ` +
          `${texts === 1 ? "cache holds" : "caches hold"} ${fixed(texts * one, 2)} GB, the parameters ` +
          `${fixed(parameters, 2)} GB. A step takes at least ${fixed(read, 1)} ms: at most ` +
          `${fixed((1000 * texts) / read, 0)} tokens a second.`,
      ];
    },
  };

  const made = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // The input of a control, and what shows a value in it.
  function input(control, change) {
    const { kind, name, values, options, unit = "", low, step, count: many } = control;
    const set = (value) => change(name, value);
    if (kind === "switch") {
      const box = made("input", { type: "checkbox" });
      box.addEventListener("change", () => set(box.checked));
      return [made("label", { className: "widget-switch" }, box, control.label), (x) => (box.checked = x)];
    }
    if (kind === "choice") {
      const choice = made("select", {}, ...options.map(([, text]) => new Option(text)));
      choice.addEventListener("change", () => set(options[choice.selectedIndex][0]));
      const show = (x) => (choice.selectedIndex = options.findIndex(([option]) => option === x));
      return [made("label", {}, made("span", {}, control.label), choice), show];
    }
    const all = values ?? range(many, (n) => Math.round((low + n * step) * 1e6) / 1e6);
    const slider = made("input", { type: "range", min: 0, max: all.length - 1 });
    const value = made("span", { className: "widget-value", ariaHidden: "true" });
    slider.addEventListener("input", () => set(all[slider.value]));
    const show = (x) => {
      slider.value = all.indexOf(x);
      value.textContent = typed(x) + unit;
      slider.setAttribute("aria-valuetext", value.textContent);
    };
    return [made("label", {}, made("span", {}, control.label, " ", value), slider), show, all];
  }

  function start(root) {
    const draw = widgets[root.dataset.widget];
    const given = JSON.parse(root.dataset.state);
    const [view, says] = ["view", "says"].map((part) => root.querySelector(`.widget-${part}`));
    const form = made("div", { className: "widget-controls" });
    const shows = {};
    const most = {};
    let state = { ...given };
    let timer = 0;

    const change = (name, value) => {
      state = name ? { ...state, [name]: value } : { ...given };
      for (const key in shows) shows[key](state[key]);
      const [html, sentence] = draw(state);
      view.innerHTML = html;
      clearTimeout(timer); // a screen reader hears where a drag ends, not all that it passes
      timer = setTimeout(() => (says.textContent = sentence), 250);
    };
    const button = (text, act) => {
      const element = made("button", { type: "button", textContent: text });
      element.addEventListener("click", act);
      form.append(element);
    };

    for (const control of JSON.parse(root.dataset.controls)) {
      if (control.kind === "button") {
        const { to, by } = control;
        button(control.label, () => {
          change(to, state[to] === most[to] ? 0 : Math.min(state[to] + state[by], most[to]));
        });
        continue;
      }
      const [element, show, all] = input(control, change);
      shows[control.name] = show;
      most[control.name] = all?.at(-1);
      show(state[control.name]);
      form.append(element);
    }
    button("Reset", () => change());
    says.setAttribute("role", "status");
    root.prepend(form);

    if (!("direction" in given)) return;
    // The query can be dragged around; the slider of its direction does the same.
    const drag = (event) => {
      const plane = view.querySelector("svg").getBoundingClientRect();
      const x = event.clientX - plane.left - plane.width / 2;
      const y = plane.top + plane.height / 2 - event.clientY;
      const turns = Math.round((Math.atan2(y, x) * 36) / Math.PI);
      change("direction", (5 * (turns + 72)) % 360);
    };
    view.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".widget-drag")) return;
      event.preventDefault();
      view.setPointerCapture(event.pointerId);
      view.onpointermove = drag;
    });
    view.addEventListener("lostpointercapture", () => (view.onpointermove = null));
  }

  document.querySelectorAll(".widget").forEach(start);
})();
