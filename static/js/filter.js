// A list that is already there, narrowed while somebody types. Without a script the field stays hidden.
export function filters(root) {
  for (const input of root.querySelectorAll("[data-filters]")) {
    const rows = [...document.querySelectorAll(`#${input.dataset.filters} tr[data-words]`)];
    input.closest("[hidden]")?.removeAttribute("hidden");
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !wanted.every((word) => row.dataset.words.includes(word));
    });
  }
}
