// A probe's page, live: each event of the stream is a reason to fetch the fragment again. EventSource reconnects by itself.
function watch(place) {
  if (place.firstElementChild.dataset.final === "true") return;
  const stream = new EventSource(`/api/v1/probes/${place.dataset.probe}/events`);
  const said = document.getElementById("said");
  let busy = false, again = false;

  // Bars go on from where they were, so that they grow; the focus stays on its button.
  function replace(html) {
    const bars = () => place.querySelectorAll("[data-bar]");
    const before = new Map([...bars()].map((bar) => [bar.dataset.bar, bar.getAttribute("width")]));
    const focused = document.activeElement.id;
    place.innerHTML = html;
    for (const bar of bars()) {
      const width = bar.getAttribute("width");
      bar.setAttribute("width", before.get(bar.dataset.bar) ?? width);
      bar.getBoundingClientRect();
      bar.setAttribute("width", width);
    }
    if (focused) document.getElementById(focused)?.focus();
  }

  async function renew() {
    if (busy) { again = true; return; }
    busy = true;
    const response = await fetch(location.pathname, { headers: { "X-Fragment": "answer" } });
    if (response.ok) replace(await response.text());
    const answer = place.firstElementChild;
    if (said.textContent !== answer.dataset.said) said.textContent = answer.dataset.said;
    if (answer.dataset.final === "true") stream.close();
    busy = false;
    if (again) { again = false; renew(); }
  }

  for (const kind of ["state", "progress", "note"]) stream.addEventListener(kind, renew);
}

watch(document.querySelector("[data-probe]"));
