// The page works without any of this. Each part looks for its own hooks and leaves the rest alone.
// It travels as one file with what it imports (app/static_files.py); what few pages need, they name themselves.
import { combobox } from "./combobox.js";
import { live } from "./live.js";
import { picture } from "./picture.js";
import { copying } from "./copying.js";
import { names } from "./names.js";

for (const input of document.querySelectorAll("[data-combobox]")) combobox(input);
live(document.querySelector("[data-live]"), (answer) => { picture(answer); copying(answer); });
picture(document);
copying(document);
names(document.querySelector(".sentence #model"));
