// Type-ahead by the ARIA combobox pattern (APG, "editable with list autocomplete"). The server ranks, as the API does.
export function combobox(input) {
  const kind = input.getAttribute("list");
  const list = document.createElement("ul");
  const said = document.getElementById("said");
  let active = -1, asked = null, arriving = null;
  Object.assign(list, { className: "options", id: `${input.id}-options`, hidden: true, role: "listbox", ariaLabel: "Suggestions" });
  input.removeAttribute("list");
  Object.assign(input, { role: "combobox", ariaAutoComplete: "list", ariaExpanded: "false" });
  input.setAttribute("aria-controls", list.id);
  input.after(list);

  function close() {
    asked?.abort();
    list.hidden = true;
    active = -1;
    input.ariaExpanded = "false";
    input.removeAttribute("aria-activedescendant");
  }

  function point(index) {
    const items = [...list.children];
    active = (index + items.length) % items.length;
    items.forEach((item, place) => { item.ariaSelected = String(place === active); });
    input.setAttribute("aria-activedescendant", items[active].id);
    items[active].scrollIntoView({ block: "nearest" });
  }

  async function open(typed) {
    close();
    asked = new AbortController();
    try {
      const response = await fetch(`/suggest/${kind}?q=${encodeURIComponent(typed)}`, { signal: asked.signal });
      list.innerHTML = response.ok ? await response.text() : "";
    } catch {
      return; // something newer was typed, or the server is away: the field works without
    }
    for (const item of list.children) item.classList.toggle("here", item.dataset.value === input.value);
    list.hidden = !list.children.length;
    list.style.left = "0px"; // measured where it hangs, then moved to where the window ends
    list.style.left = `${Math.min(0, document.documentElement.clientWidth - 8 - list.getBoundingClientRect().right)}px`;
    input.ariaExpanded = String(!list.hidden);
    if (said) said.textContent = list.hidden ? "No suggestions" : `${list.children.length} suggestions`;
  }

  function choose(item) {
    if (item) input.value = item.dataset.value;
    close();
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  input.addEventListener("input", () => { arriving = open(input.value); });
  input.addEventListener("blur", () => { arriving = null; close(); });
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => { if (list.hidden) open(""); });
  input.addEventListener("keydown", async (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const typing = arriving !== null;
    if (!step && !(typing && ["Enter", "Escape"].includes(event.key))) return;
    event.preventDefault();
    if (event.key === "Escape") { arriving = null; return close(); }
    await (arriving ??= open(""));
    if (step) return list.hidden || point(active < 0 && step < 0 ? -1 : active + step);
    arriving = null;
    choose(list.children[Math.max(active, 0)]);
  });
  // mousedown, because blur would close the list before a click arrives.
  list.addEventListener("mousedown", (event) => {
    event.preventDefault();
    const item = event.target.closest("li");
    if (item) { arriving = null; choose(item); }
  });
}
