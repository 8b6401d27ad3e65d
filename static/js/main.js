// The page works without any of this. Each part looks for its own hooks and leaves the rest alone.
import { combobox } from "./combobox.js";
import { live } from "./live.js";
import { picture } from "./picture.js";
import { copying } from "./copying.js";
import { probe } from "./probe.js";

for (const input of document.querySelectorAll("[data-combobox]")) combobox(input);
live(document.querySelector("[data-live]"), (answer) => { picture(answer); copying(answer); });
picture(document);
copying(document);
probe(document.querySelector("[data-probe]"));
