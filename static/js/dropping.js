// A file dropped on the text becomes the text, as if it had been pasted. A script of its page's own: there from the
// first moment on, as a browser opens a dropped file in place of the page that does not listen yet.
for (const area of document.querySelectorAll("[data-drop]")) {
  area.addEventListener("dragover", (event) => event.preventDefault());
  area.addEventListener("drop", async (event) => {
    const [file] = event.dataTransfer.files;
    if (!file) return;
    event.preventDefault();
    area.value = await file.text();
    area.form.requestSubmit();
  });
}
