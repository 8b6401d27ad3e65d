// The page works without any of this. Each part looks for its own hooks and leaves the rest alone.
import { combobox } from "./combobox.js";
import { live } from "./live.js";
import { picture } from "./picture.js";
import { copying } from "./copying.js";
import { names } from "./names.js";

// Fetched where a page has a list to narrow.
function narrowed(root) {
  if (root.querySelector("[data-filters]")) import("./filter.js").then(({ filters }) => filters(root));
}

for (const input of document.querySelectorAll("[data-combobox]")) combobox(input);
live(document.querySelector("[data-live]"), (answer) => { picture(answer); copying(answer); narrowed(answer); });
picture(document);
copying(document);
narrowed(document);
names(document.querySelector(".sentence #model"));
const place = document.querySelector("[data-probe]");
if (place) import("./probe.js").then(({ probe }) => probe(place));
