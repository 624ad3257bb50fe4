// An output that is to be predicted, and the text that explains it, wait until the reader has
// written down a guess.
(() => {
  const kept = `attn-course guesses ${location.pathname}`; // in this browser alone
  const guesses = attnKept.read(kept, {});

  // Ask `question` before `fold`, or say what was guessed.
  function ask(question, fold, number) {
    const form = document.createElement("form");
    form.className = "guess";
    form.setAttribute("aria-label", `Prediction ${number + 1}`);
    form.innerHTML =
      '<label>Your guess <input type="text" autocomplete="off" required></label>' +
      "<button>Compare</button>" +
      '<button type="button">Show without a guess</button>';
    question.id ||= `prediction-${number + 1}`;
    form.querySelector("input").setAttribute("aria-describedby", question.id);
    const skip = form.querySelector('button[type="button"]');
    const said = Object.assign(document.createElement("p"), { className: "guessed" });
    said.setAttribute("role", "status");
    fold.before(form, said);

    const held = [];
    for (let next = fold.parentElement.nextElementSibling; next?.tagName === "P"; ) {
      held.push(next);
      next.classList.add("held");
      next = next.nextElementSibling;
    }
    const show = (guess) => {
      form.remove();
      for (const paragraph of held) paragraph.classList.remove("held");
      said.textContent = guess ? `Your guess: ${guess}` : "";
    };
    if (guesses[number]) {
      fold.open = true;
      return show(guesses[number]);
    }
    const open = (guess) => {
      show(guess);
      fold.open = true;
      fold.querySelector("summary").focus();
    };
    form.addEventListener("given-up", () => show("")); // by who runs the cell
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const guess = form.querySelector("input").value.trim();
      if (!guess) return;
      guesses[number] = guess;
      attnKept.write(kept, guesses);
      open(guess);
    });
    skip.addEventListener("click", () => open(""));
  }

  let number = 0;
  for (const strong of document.querySelectorAll("article p > strong:first-child")) {
    if (strong.textContent !== "Predict.") continue;
    // The cell whose output is folded follows the question, sometimes after one that prepares it.
    let next = strong.parentElement.nextElementSibling;
    for (let near = 0; near < 4 && next; near += 1) {
      const fold = next.querySelector(":scope > details.below-input, :scope > details.above-input");
      if (fold?.querySelector(".cell_output")) {
        ask(strong.parentElement, fold, number);
        break;
      }
      next = next.nextElementSibling;
    }
    number += 1;
  }
})();
