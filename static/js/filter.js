// A list that is already there, narrowed while somebody types. Without a script the field stays hidden.
document.addEventListener("input", ({ target }) => {
  if (!target.dataset.filters) return;
  const wanted = target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll(`#${target.dataset.filters} tr[data-words]`)) {
    row.hidden = !wanted.every((word) => row.dataset.words.includes(word));
  }
});
