// Ask again when a setting changes, without a reload. The address stays the plan.
const WAIT_MS = 150;
const TYPING_MS = 450;

export function live(form, renewed) {
  const place = document.getElementById("answer");
  const said = document.getElementById("said");
  if (!form || !place) return;
  const here = () => location.pathname + location.search;
  let timer, asked, last, typing, shown = here();

  function showErrors(answer) {
    const wrong = new Map([...answer.querySelectorAll("[data-field]")].map((item) => [item.dataset.field, item.querySelector("span").textContent]));
    for (const slot of form.querySelectorAll(".error")) {
      const name = slot.id.replace(/-error$/, "");
      const control = form.elements[name];
      slot.hidden = !wrong.has(name);
      slot.textContent = wrong.get(name) ?? "";
      if (!wrong.has(name)) { control?.removeAttribute("aria-invalid"); continue; }
      control?.setAttribute("aria-invalid", "true");
      control?.setAttribute("aria-describedby", slot.id);
      control?.closest("details")?.setAttribute("open", "");
    }
  }

  // One step back for each change; what is still being typed into one field is one change.
  function remember(address) {
    if (address === here()) return;
    history[typing && typing === last ? "replaceState" : "pushState"](null, "", address);
    last = typing;
    shown = here();
  }

  // A link carries what its page reads of a plan: all of it, or the settings it names.
  function kept(query, names) {
    return names ? query.split("&").filter((pair) => names.split(" ").includes(pair.split("=")[0])).join("&") : query;
  }

  async function ask() {
    asked?.abort();
    asked = new AbortController();
    try {
      const query = new URLSearchParams(new FormData(form));
      const response = await fetch(`${form.action}?${query}`, { headers: { "X-Fragment": "answer" }, signal: asked.signal });
      if (!response.headers.get("X-Fragment")) return form.submit();
      place.innerHTML = await response.text();
    } catch (error) {
      return error.name === "AbortError" || form.submit();
    }
    const answer = place.firstElementChild;
    showErrors(answer);
    said.textContent = answer.dataset.said;
    document.title = answer.dataset.title ?? `${answer.dataset.said} Fitproof`;
    remember(`${new URL(form.action).pathname}?${answer.dataset.query}`);
    for (const link of document.querySelectorAll("a[data-keeps-plan]")) link.search = kept(answer.dataset.query, link.dataset.keepsPlan);
    renewed(place);
  }

  function soon(wait) {
    clearTimeout(timer);
    timer = setTimeout(ask, wait);
  }

  form.addEventListener("change", (event) => { typing = event.target; soon(WAIT_MS); });
  form.addEventListener("focusin", () => { last = null; });
  form.addEventListener("input", (event) => { if (event.target.inputMode === "numeric") { typing = event.target; soon(TYPING_MS); } });
  // A jump within the page is told as well, and renews nothing.
  addEventListener("popstate", () => { if (here() !== shown) location.reload(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    soon(0);
  });
}
