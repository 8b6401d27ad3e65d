// Pointing at a part of the bar, or at its name in the legend, shows what it is and dims the rest.
export function picture(root) {
  const card = root.querySelector("svg.card");
  const readout = root.querySelector("#readout");
  if (!card) return;

  const causeOf = (segment) => [...segment.classList].find((name) => name.startsWith("c-")).slice(2);

  function show(chosen, words) {
    card.classList.toggle("choosing", chosen.length > 0);
    for (const segment of card.querySelectorAll(".segment")) segment.classList.toggle("chosen", chosen.includes(segment));
    readout.textContent = words;
    readout.hidden = !words;
  }

  function point(event) {
    const segment = event.target.closest?.(".segment");
    const link = event.target.closest?.("[data-cause]");
    if (segment) return show([segment], segment.querySelector("title").textContent);
    if (!link || !link.closest(".legend")) return;
    const chosen = [...card.querySelectorAll(".segment")].filter((item) => causeOf(item) === link.dataset.cause);
    show(chosen, chosen.map((item) => item.querySelector("title").textContent.split(" = ")[0]).join(" · "));
  }

  const figure = card.closest("figure");
  figure.addEventListener("mouseover", point);
  figure.addEventListener("focusin", point);
  for (const leaving of ["mouseleave", "focusout"]) figure.addEventListener(leaving, () => show([], ""));
  card.addEventListener("click", (event) => {
    const row = document.getElementById(`line-${event.target.closest(".segment")?.dataset.line}`);
    if (!row) return;
    row.querySelector("details").open = true;
    row.querySelector("summary").focus();
  });
}
