// Type-ahead over a <datalist>, by the ARIA combobox pattern (APG, "editable with list autocomplete").
const SHOWN = 12;

const plain = (text) => text.toLowerCase().replace(/[^a-z0-9.]+/g, " ");

// Every word typed must occur; a match at the start of a word counts more, and of equals the shorter wins.
function score(option, words) {
  let total = 0;
  for (const word of words) {
    const at = option.text.indexOf(word);
    if (at < 0) return -1;
    total += at === 0 || option.text[at - 1] === " " ? 2 : 1;
  }
  return total * 1000 - option.text.length;
}

export function combobox(input) {
  const source = document.getElementById(input.getAttribute("list"));
  if (!source) return;
  const all = [...source.options].map((option) => ({ value: option.value, words: option.text, text: plain(`${option.value} ${option.text}`) }));
  const list = document.createElement("ul");
  let active = -1;
  list.className = "options";
  list.id = `${input.id}-options`;
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Suggestions");
  input.removeAttribute("list");
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": list.id, "aria-expanded": "false" })) input.setAttribute(name, value);
  input.after(list);

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function point(index) {
    const items = [...list.children];
    active = (index + items.length) % items.length;
    items.forEach((item, place) => item.setAttribute("aria-selected", String(place === active)));
    input.setAttribute("aria-activedescendant", items[active].id);
    items[active].scrollIntoView({ block: "nearest" });
  }

  function open(typed) {
    const words = plain(typed).split(" ").filter(Boolean);
    const found = all.map((option) => [score(option, words), option]).filter(([points]) => points >= 0 || !words.length);
    if (words.length) found.sort((a, b) => b[0] - a[0]);
    list.replaceChildren(...found.slice(0, SHOWN).map(([, option], place) => {
      const item = document.createElement("li");
      const small = document.createElement("small");
      item.id = `${list.id}-${place}`;
      item.dataset.value = option.value;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", "false");
      small.textContent = option.words;
      item.append(option.value, small);
      return item;
    }));
    list.hidden = !list.children.length;
    input.setAttribute("aria-expanded", String(!list.hidden));
    active = -1;
    input.removeAttribute("aria-activedescendant");
  }

  function choose(item) {
    input.value = item.dataset.value;
    close();
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  input.addEventListener("input", () => open(input.value));
  input.addEventListener("blur", close);
  input.addEventListener("focus", () => input.select());
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) open("");
      if (list.children.length) point(active + (event.key === "ArrowDown" ? 1 : active < 0 ? 0 : -1));
    } else if (event.key === "Escape" && !list.hidden) {
      event.preventDefault();
      close();
    } else if (event.key === "Enter" && !list.hidden && list.children.length) {
      event.preventDefault();
      choose(list.children[Math.max(active, 0)]);
    }
  });
  // mousedown, because blur would close the list before a click arrives.
  list.addEventListener("mousedown", (event) => {
    event.preventDefault();
    const item = event.target.closest("li");
    if (item) choose(item);
  });
}
